"""The one release of LiteLLM that Farebox is tested with: checked at start and in `doctor`."""

LITELLM_TESTED = "1.106.2"
