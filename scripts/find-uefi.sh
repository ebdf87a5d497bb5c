#!/usr/bin/env bash
# Succeeds where qemu's UEFI is installed, which has no program of its own.
set -euo pipefail

[[ -e /usr/share/OVMF/OVMF_CODE_4M.fd && -e /usr/share/OVMF/OVMF_VARS_4M.fd ]]
