# SPDX-License-Identifier: Apache-2.0
"""xen-sev in the dom0 of Qubes OS: when a qube is attested, and how that is asked of sevd. What is decided, is decided in sevd."""
