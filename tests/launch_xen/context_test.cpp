// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/vcpu_context.hpp"
#include "tests/support.hpp"

using namespace sev;
using launch::xen::vcpu_differences;
using test::fixture;

namespace {

constexpr std::size_t cpu_at = 8 + 24 + 8; // header record, then the CPU record's own header

measure::XenVcpuContext pvh() {
    measure::XenVcpuContext want;
    want.rip = 0x1000040;
    want.rbx = 0x1003000;
    want.mtrr_def_type = 0x806;
    return want;
}
Bytes pvh_bytes() { return read_file(fixture("xen_context/pvh.bin"), 1U << 20); }
using Texts = std::vector<std::string>;

} // namespace

TEST_CASE("vCPU context: what Xen saves of untouched guests is as wanted (tests/fixtures/xen_context/make.py)") {
    CHECK(vcpu_differences(pvh_bytes(), pvh(), 2) == Texts{});
    measure::XenVcpuContext hvm;
    hvm.rip = 0x100000;
    hvm.rbx = 0x334000;
    CHECK(vcpu_differences(read_file(fixture("xen_context/hvm.bin"), 1U << 20), hvm, 1) == Texts{});
}

TEST_CASE("vCPU context: one changed bit anywhere in the CPU record is found, but in the FPU's unused area and the time stamp counter") {
    const Bytes good = pvh_bytes();
    for (std::size_t at = 0x200; at < 0x408; ++at) {
        Bytes bad = good;
        bad[cpu_at + at] ^= 0x10;
        CAPTURE(at);
        CHECK(vcpu_differences(bad, pvh(), 2).size() == (at >= 0x3F0 && at < 0x3F8 ? 0 : 1));
    }
    Bytes bad = good;
    bad[cpu_at + 0x281] ^= 1;
    CHECK(vcpu_differences(bad, pvh(), 2) == Texts{"vCPU 0: rip is 0x1000140, want 0x1000040"});
    bad = good;
    bad[cpu_at + 0x3E1] = 5;
    CHECK(vcpu_differences(bad, pvh(), 2) == Texts{"vCPU 0: efer is 0x500, want 0x0"});
}

TEST_CASE("vCPU context: one vCPU more, one less, one that is up") {
    CHECK(vcpu_differences(pvh_bytes(), pvh(), 1) == Texts{"vCPU 1: is one more than the 1 wanted"});
    CHECK(vcpu_differences(pvh_bytes(), pvh(), 3) == Texts{"vCPU 2: has no MTRR record"});
    Bytes two = pvh_bytes();
    const Bytes cpu{two.begin() + cpu_at - 8, two.begin() + cpu_at + 0x408};
    two.insert(two.begin() + cpu_at + 0x408, cpu.begin(), cpu.end());
    CHECK(vcpu_differences(two, pvh(), 2) == Texts{"vCPU 0: has two records, want one"});
    two[cpu_at + 0x408 + 2] = 1; // its instance
    CHECK(vcpu_differences(two, pvh(), 2) == Texts{"vCPU 1: is up, want it down"});
    Bytes none = pvh_bytes();
    none.erase(none.begin() + cpu_at - 8, none.begin() + cpu_at + 0x408);
    CHECK(vcpu_differences(none, pvh(), 2) == Texts{"vCPU 0: has no CPU record, want it up"});
    Bytes mtrr = pvh_bytes();
    mtrr[mtrr.size() - 8 - 8] = 0; // the last vCPU's default type
    CHECK(vcpu_differences(mtrr, pvh(), 2) == Texts{"vCPU 1: MTRR default type is 0x800, want 0x806"});
}

TEST_CASE("vCPU context: every truncation, left-over bytes and odd sizes are refused") {
    const Bytes good = pvh_bytes();
    for (std::size_t size = 0; size < good.size(); ++size) CHECK_THROWS_AS(vcpu_differences(ByteView{good}.first(size), pvh(), 2), Error);
    Bytes more = good;
    more.push_back(0);
    CHECK_THROWS_AS(vcpu_differences(more, pvh(), 2), Error);
    Bytes short_cpu = good;
    short_cpu[cpu_at - 4] ^= 8; // its length
    CHECK_THROWS_AS(vcpu_differences(short_cpu, pvh(), 2), Error);
    CHECK_THROWS_AS(vcpu_differences(Bytes(launch::xen::context_limit_bytes + 1), pvh(), 2), Error);
}
