// SPDX-License-Identifier: Apache-2.0
// The helper module: the only part of the probe that links Xen's libraries. It asks Xen for the raw CPU policy, a question that changes nothing, and
// says whether libxl's headers have the coco setting. The coco hypercall is psp/xen's to ask: libxencall is loaded there, and bound to no release.
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <vector>

// the order matters: xenctrl.h defines __XEN_TOOLS__ for those after it, and none of them has extern "C"
extern "C" {
#include <xenctrl.h>
#include <xenguest.h>
#include <libxl.h>
#include <xentoollog.h>
}

#include "launch/probe/xen_module.hpp"

namespace {

int errno_or(int fallback) { return errno != 0 ? errno : fallback; }

/// libxenctrl prints to stderr unless it is given a logger; ours drops everything, as errno says enough.
void drop_message(xentoollog_logger*, xentoollog_level, int, const char*, const char*, va_list) {}
void drop_progress(xentoollog_logger*, const char*, const char*, int, unsigned long, unsigned long) {}
void no_destroy(xentoollog_logger*) {}
xentoollog_logger silent{drop_message, drop_progress, no_destroy};

struct ClosePolicy {
    void operator()(xc_cpu_policy_t* policy) const noexcept { xc_cpu_policy_destroy(policy); }
};

bool wanted(const xen_cpuid_leaf_t& leaf) {
    if (leaf.subleaf != 0 && leaf.subleaf != XEN_CPUID_NO_SUBLEAF) return false;
    constexpr std::uint32_t leaves[]{0, 1, 0x80000000, 0x80000002, 0x80000003, 0x80000004, 0x80000008, 0x8000000A, 0x8000001F, 0x80000021};
    for (const std::uint32_t one : leaves)
        if (one == leaf.leaf) return true;
    return false;
}

int read_policy(xc_interface* control, xen_sev_probe_result& out) {
    const std::unique_ptr<xc_cpu_policy_t, ClosePolicy> policy{xc_cpu_policy_init()};
    if (!policy) return ENOMEM;
    errno = 0;
    if (xc_cpu_policy_get_system(control, XEN_SYSCTL_cpu_policy_raw, policy.get()) != 0) return errno_or(EIO);
    std::uint32_t leaf_count = 0, msr_count = 0;
    if (xc_cpu_policy_get_size(control, &leaf_count, &msr_count) != 0) return errno_or(EIO);
    std::vector<xen_cpuid_leaf_t> leaves(leaf_count);
    std::vector<xen_msr_entry_t> msrs(msr_count);
    if (xc_cpu_policy_serialise(control, policy.get(), leaves.data(), &leaf_count, msrs.data(), &msr_count) != 0) return errno_or(EIO);
    for (std::size_t i = 0; i < leaf_count && i < leaves.size(); ++i) {
        const xen_cpuid_leaf_t& one = leaves[i];
        if (wanted(one) && out.leaf_count < xen_sev_probe_leaves) out.leaves[out.leaf_count++] = {one.leaf, 0, one.a, one.b, one.c, one.d};
    }
    return 0;
}

} // namespace

extern "C" __attribute__((visibility("default"))) int xen_sev_probe(xen_sev_probe_result* result) {
    if (result->abi != xen_sev_probe_abi) return EINVAL;
    std::strncpy(result->built_for, XEN_SEV_PROBE_BUILT_FOR, sizeof result->built_for - 1);
    result->control_error = result->policy_error = -1;
#ifdef LIBXL_HAVE_BUILDINFO_COCO
    result->toolstack_coco = 1;
#endif
    errno = 0;
    xc_interface* const control = xc_interface_open(&silent, &silent, 0);
    if (!control) {
        result->control_error = errno_or(EIO);
        return 0;
    }
    result->control_error = 0;
    result->policy_error = read_policy(control, *result);
    xc_interface_close(control);
    return 0;
}
