// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

/// The C interface between sevctl and the helper module xen-sev-probe-xen.so. The module is built for one Xen release (its libraries are tied to it);
/// sevctl is not.
extern "C" {

enum { xen_sev_probe_abi = 2, xen_sev_probe_leaves = 64 };

struct xen_sev_probe_leaf {
    uint32_t leaf, subleaf, eax, ebx, ecx, edx;
};

/// Each `*_error` is 0, an errno, or −1 for "not tried".
struct xen_sev_probe_result {
    uint32_t abi;                // set by the caller; another value is refused with EINVAL
    char built_for[16];          // "4.17"
    int32_t control_error;       // opening libxenctrl
    int32_t policy_error;        // xc_cpu_policy_get_system(raw)
    uint32_t leaf_count;
    struct xen_sev_probe_leaf leaves[xen_sev_probe_leaves]; // only those that the probe bundle keeps
    uint32_t toolstack_coco;     // libxl's headers have the coco setting
};

typedef int xen_sev_probe_function(struct xen_sev_probe_result* result);
/// Fills `result`; returns 0, or an errno when the interface does not fit. Prints nothing.
xen_sev_probe_function xen_sev_probe;
}
