// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/vcpu_context.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;

/// A domain's saved context: every record is read, or refused as malformed.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    measure::XenVcpuContext want;
    want.rip = 0x1000040;
    want.rbx = 0x1003000;
    want.mtrr_def_type = 0x806;
    try {
        const auto differences = launch::xen::vcpu_differences({data, size}, want, 2);
        for (const std::string& one : differences) fuzz::expect(one.starts_with("vCPU "), "a difference names its vCPU");
        fuzz::expect(launch::xen::vcpu_changes({data, size}, {data, size}).empty(), "nothing differs from itself");
        // without a record for vCPU 0 and one for each MTRR there is something to say
        fuzz::expect(!differences.empty() || size > 1032 + 2 * 240, "nothing is not as wanted");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::malformed, "a bad context is the sender's fault");
    }
    return 0;
}
