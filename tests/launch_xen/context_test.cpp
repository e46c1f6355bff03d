// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <set>

#include "launch/xen/vcpu_context.hpp"
#include "tests/support.hpp"

using namespace sev;
using launch::xen::vcpu_changes;
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

/// Where the record of that type and vCPU begins.
std::size_t record_at(const Bytes& context, unsigned type, unsigned vcpu) {
    std::size_t at = 0;
    while (context.at(at) != type || context.at(at + 2) != vcpu) at += 8 + (context.at(at + 4) | std::size_t{context.at(at + 5)} << 8);
    return at;
}

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

TEST_CASE("vCPU context: as a real Xen 4.17.7 saves it, and as a newer one with XSAVE and MSRs may") {
    measure::XenVcpuContext want = pvh();
    want.rip = 0x1000850;
    want.rbx = 0x3e00000;
    const Bytes real_pvh = read_file(fixture("xen_context/xen-4.17.7-pvh.bin"), 1U << 20);
    CHECK(vcpu_differences(real_pvh, want, 2) == Texts{});
    CHECK(vcpu_changes(real_pvh, real_pvh) == Texts{});
    want.rip = 0x100000;
    want.rbx = 0x334000;
    want.mtrr_def_type = 0;
    CHECK(vcpu_differences(read_file(fixture("xen_context/xen-4.17.7-hvm.bin"), 1U << 20), want, 2) == Texts{});
    const Bytes more = read_file(fixture("xen_context/pvh-more.bin"), 1U << 20);
    CHECK(vcpu_differences(more, pvh(), 2) == Texts{});
    CHECK(vcpu_changes(more, more) == Texts{});
}

TEST_CASE("vCPU context: each byte of each vCPU's records: held against a reset vCPU, or against the first look") {
    const Bytes good = read_file(fixture("xen_context/pvh-more.bin"), 1U << 20);
    const std::map<unsigned, std::vector<std::pair<std::size_t, std::size_t>>> hosts_own{
        {5, {{12, 16}, {24, 32}}},           // timer divisor; x2APIC id
        {6, {{0x20, 0x24}, {0x30, 0x34}}},   // id, version
        {14, {{224, 232}}},                  // capability
        {16, {{0, 8}, {24, 56}}},            // features; x87's words and MXCSR
        {18, {{0, 32}}},                     // machine check
        {20, {{16, 24}}},                    // value of SPEC_CTRL
        {21, {{0, 26}}},                     // unknown
    };
    const std::set<unsigned> of_domain{1, 7, 8, 9};
    std::size_t at = 0, flipped = 0;
    while (at < good.size()) {
        const unsigned type = good[at] | unsigned{good[at + 1]} << 8, length = good[at + 4] | unsigned{good[at + 5]} << 8;
        for (std::size_t i = 0; i < length && type != 2 && !of_domain.contains(type); ++i, ++flipped) {
            Bytes bad = good;
            bad[at + 8 + i] ^= 0x20;
            const auto own = hosts_own.find(type);
            const bool free = own != hosts_own.end() &&
                              std::ranges::any_of(own->second, [&](const auto& part) { return i >= part.first && i < part.second; });
            CAPTURE(type);
            CAPTURE(i);
            CHECK(vcpu_differences(bad, pvh(), 2).empty() == free);
            CHECK(vcpu_changes(good, bad).size() == 1);
            CHECK(vcpu_changes(bad, good).size() == 1);
        }
        at += 8 + length;
    }
    CHECK(flipped == 2 * (32 + 1024 + 240 + 600 + 32 + 8 + 24 + 26));
}

TEST_CASE("vCPU context: what is said of a vCPU that is not as after a reset") {
    const auto changed = [](std::string_view name, unsigned type, unsigned vcpu, std::size_t offset, std::uint8_t value) {
        Bytes out = read_file(fixture(name), 1U << 20);
        out.at(record_at(out, type, vcpu) + 8 + offset) = value;
        return vcpu_differences(out, pvh(), 2);
    };
    CHECK(changed("xen_context/pvh.bin", 14, 1, 0, 0x01) == Texts{"vCPU 1: PAT is 0x7040600070401, want 0x7040600070406"});
    CHECK(changed("xen_context/pvh.bin", 14, 0, 8 + 16 + 8, 0x11) == Texts{"vCPU 0: MTRR mask 1 is 0x11, want 0x0"});
    CHECK(changed("xen_context/pvh.bin", 14, 0, 136 + 80, 6) == Texts{"vCPU 0: fixed MTRR 10 is 0x6, want 0x0"});
    CHECK(changed("xen_context/pvh.bin", 14, 1, 232, 0) == Texts{"vCPU 1: MTRR default type is 0x800, want 0x806"});
    CHECK(changed("xen_context/pvh.bin", 5, 1, 1, 0x09) == Texts{"vCPU 1: APIC base is 0xfee00900, want 0xfee00800"});
    CHECK(changed("xen_context/pvh.bin", 6, 0, 0x202, 1) == Texts{"vCPU 0: APIC register 0x200 is 0x10000, want 0x0"});
    CHECK(changed("xen_context/pvh.bin", 6, 0, 0x322, 0) == Texts{"vCPU 0: APIC register 0x320 is 0x0, want 0x10000"});
    CHECK(changed("xen_context/pvh.bin", 6, 0, 0x2F2, 1) == Texts{}); // CMCI's vector, masked
    CHECK(changed("xen_context/pvh.bin", 19, 0, 0, 1) == Texts{"vCPU 0: TSC_ADJUST is 0x1, want 0x0"});
    CHECK(changed("xen_context/pvh-more.bin", 16, 0, 8, 7) == Texts{"vCPU 0: XCR0 is 0x7, want 0x1 or 0"});
    CHECK(changed("xen_context/pvh-more.bin", 16, 1, 24 + 160, 9) == Texts{"vCPU 1: its XSAVE record has 0x09 at offset 0xb8, want 0"});
    CHECK(changed("xen_context/pvh-more.bin", 20, 0, 8, 0x49) == Texts{"vCPU 0: MSR 0x49 is 0x4, want 0x0"});
    CHECK(changed("xen_context/pvh-more.bin", 20, 0, 0, 2) == Texts{"vCPU 0: its MSR record says 2 MSRs in 24 bytes"});
}

TEST_CASE("vCPU context: records that come or go between two looks") {
    const Bytes plain = pvh_bytes(), more = read_file(fixture("xen_context/pvh-more.bin"), 1U << 20);
    Bytes without = more;
    const std::size_t at = record_at(more, 16, 1);
    without.erase(without.begin() + static_cast<std::ptrdiff_t>(at), without.begin() + static_cast<std::ptrdiff_t>(at) + 8 + 600);
    CHECK(vcpu_changes(more, without) == Texts{"vCPU 1: its XSAVE record is gone"});
    CHECK(vcpu_changes(without, more) == Texts{"vCPU 1: has a XSAVE record now"});
    CHECK(vcpu_changes(plain, more).size() == 8);
    Bytes later = plain;
    later[cpu_at + 0x3F0] ^= 1; // the time stamp counter
    CHECK(vcpu_changes(plain, later) == Texts{});
}

TEST_CASE("vCPU context: one vCPU more, one less, one that is up") {
    CHECK(vcpu_differences(pvh_bytes(), pvh(), 1) == Texts{"vCPU 1: is one more than the 1 wanted"});
    CHECK(vcpu_differences(pvh_bytes(), pvh(), 3) ==
          Texts{"vCPU 2: has no LAPIC record", "vCPU 2: has no LAPIC_REGS record", "vCPU 2: has no MTRR record"});
    Bytes two = pvh_bytes();
    const Bytes cpu{two.begin() + cpu_at - 8, two.begin() + cpu_at + 0x408};
    two.insert(two.begin() + cpu_at + 0x408, cpu.begin(), cpu.end());
    CHECK_THROWS_WITH_AS(vcpu_differences(two, pvh(), 2), doctest::Contains("a second CPU record of vCPU 0, want one"), Error);
    two[cpu_at + 0x408 + 2] = 1; // its instance
    CHECK(vcpu_differences(two, pvh(), 2) == Texts{"vCPU 1: is up, want it down"});
    Bytes none = pvh_bytes();
    none.erase(none.begin() + cpu_at - 8, none.begin() + cpu_at + 0x408);
    CHECK(vcpu_differences(none, pvh(), 2) == Texts{"vCPU 0: has no CPU record, want it up"});
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
