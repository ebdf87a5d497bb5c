"""The target appliance: receives grains, seals them under its own site's keys, keeps points that can be recovered."""
