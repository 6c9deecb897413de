"""`farebox router`: train a router from a profile, calibrate it to a floor, evaluate it.

Offline work with numpy; the proxy never imports this.
"""
