// SPDX-License-Identifier: Apache-2.0
// The helper module: the only part of the probe that links Xen's libraries. It asks Xen for the raw CPU policy and whether the coco hypercall exists;
// both are questions that change nothing.
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
#include <xencall.h>
#include <xentoollog.h>
}

#include "launch/probe/xen_module.hpp"

namespace {

constexpr unsigned coco_hypercall = 43; // unused in every released Xen; the proposed confidential computing interface
constexpr unsigned coco_op_status = 0, coco_op_certificates = 3;
constexpr std::size_t coco_buffer_bytes = 64 * 1024; // far above every layout seen (8496), so that a newer one cannot write beyond it

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

/// One coco operation with a zeroed buffer; 0 or an errno. The first bytes of the answer go to `answer`.
int ask_coco(xencall_handle* call, unsigned operation, std::uint8_t* answer, std::size_t answer_bytes) {
    void* const buffer = xencall_alloc_buffer(call, coco_buffer_bytes);
    if (!buffer) return ENOMEM;
    std::memset(buffer, 0, coco_buffer_bytes);
    std::uint64_t address = 0;
    static_assert(sizeof address == sizeof buffer);
    std::memcpy(&address, &buffer, sizeof address);
    errno = 0;
    const int result = xencall2(call, coco_hypercall, operation, address);
    const int error = result < 0 ? errno_or(ENOSYS) : 0;
    if (answer_bytes != 0) std::memcpy(answer, buffer, answer_bytes);
    xencall_free_buffer(call, buffer);
    return error;
}

void read_coco(xen_sev_probe_result& out) {
    xencall_handle* const call = xencall_open(&silent, 0);
    if (!call) {
        out.coco_error = errno_or(EIO);
        return;
    }
    out.coco_error = ask_coco(call, coco_op_status, out.coco_status, sizeof out.coco_status);
    // status: u32 platform @0 (1: AMD SEV), u32 platform_flags @4, u32 flags @8 (bit 0: supported)
    const bool supported = out.coco_error == 0 && out.coco_status[0] == 1 && (out.coco_status[8] & 1) != 0;
    // only whether it answers: the certificates and the chip id in the answer are dropped
    if (supported) out.certificates_error = ask_coco(call, coco_op_certificates, nullptr, 0);
    xencall_close(call);
}

} // namespace

extern "C" __attribute__((visibility("default"))) int xen_sev_probe(xen_sev_probe_result* result) {
    if (result->abi != xen_sev_probe_abi) return EINVAL;
    std::strncpy(result->built_for, XEN_SEV_PROBE_BUILT_FOR, sizeof result->built_for - 1);
    result->control_error = result->policy_error = result->coco_error = result->certificates_error = -1;
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
    read_coco(*result);
    return 0;
}
