// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "tests/probe/support.hpp"

namespace sev::probe {
namespace {

/// A CPU that gives rubbish for every leaf above its maximum, as Intel's do, and remembers what it was asked.
class TrapCpu : public CpuidSource {
public:
    TrapCpu(std::uint32_t highest_basic, std::uint32_t highest_extended, bool hypervisor)
        : basic_{highest_basic}, extended_{highest_extended}, hypervisor_{hypervisor} {}
    Reading<CpuidLeaf> read(std::uint32_t leaf) override {
        asked.insert(leaf);
        if (leaf == fails) return Failure{5, "Input/output error"};
        if (leaf == 0) return CpuidLeaf{.leaf = 0, .eax = basic_, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69};
        if (leaf == 1) return CpuidLeaf{.leaf = 1, .ecx = hypervisor_ ? 0x80000000 : 0};
        if (leaf == leaf_extended) return CpuidLeaf{.leaf = leaf, .eax = extended_};
        return CpuidLeaf{.leaf = leaf, .eax = 0x21F, .ebx = 0x16F, .ecx = 15, .edx = 1};
    }
    std::set<std::uint32_t> asked;
    std::uint32_t fails = 0xFFFF'FFFF;

private:
    std::uint32_t basic_, extended_;
    bool hypervisor_;
};

TEST_CASE("read_leaves asks for no leaf above the maximum of its range") {
    for (const std::uint32_t highest :
         {0x8000'0000U, 0x8000'0004U, 0x8000'0008U, 0x8000'000AU, 0x8000'001EU, 0x8000'001FU, 0x8000'0020U, 0x8000'0021U, 0x8000'FFFFU}) {
        CAPTURE(highest);
        TrapCpu cpu{0xD, highest, false};
        const auto leaves = read_leaves(cpu);
        REQUIRE(leaves.value());
        for (const std::uint32_t leaf : cpu.asked) CHECK((leaf < leaf_extended || leaf <= highest));
        CHECK(cpu.asked.contains(leaf_encryption) == (highest >= leaf_encryption));
        CHECK(leaves.value()->find(leaf_encryption).has_value() == (highest >= leaf_encryption));
        CHECK_FALSE(cpu.asked.contains(leaf_hypervisor));
    }
}

TEST_CASE("read_leaves: a maximum that is none is no licence to read") {
    for (const std::uint32_t highest : {0U, 0xDU, 0x8001'0000U, 0xFFFF'FFFFU, 0x7FFF'FFFFU}) {
        TrapCpu cpu{0xD, highest, false};
        const auto leaves = read_leaves(cpu);
        REQUIRE(leaves.value());
        CHECK(leaves.value()->highest(leaf_extended) == 0);
        CHECK_FALSE(cpu.asked.contains(leaf_encryption));
    }
}

TEST_CASE("read_leaves asks a hypervisor's leaf only where the hypervisor bit is set, and leaf 1 only where it exists") {
    TrapCpu guest{0xD, 0x8000'0008, true};
    CHECK(read_leaves(guest).value());
    CHECK(guest.asked.contains(leaf_hypervisor));
    TrapCpu ancient{0, 0, false};
    CHECK(read_leaves(ancient).value());
    CHECK_FALSE(ancient.asked.contains(1));
}

TEST_CASE("read_leaves: a leaf that cannot be read is the failure of the whole") {
    for (const std::uint32_t leaf : {0U, 1U, 0x8000'0000U, 0x8000'001FU}) {
        TrapCpu cpu{0xD, 0x8000'0021, false};
        cpu.fails = leaf;
        CHECK(read_leaves(cpu).failed_with(5));
    }
}

TEST_CASE("find believes no recorded leaf above the maximum") {
    CpuidLeaves cpuid{.leaves = {{.leaf = leaf_extended, .eax = 0x8000'000A}, {.leaf = leaf_encryption, .eax = 0x21F}}};
    CHECK_FALSE(cpuid.find(leaf_encryption));
    cpuid.leaves[0].eax = 0x8000'001E;
    CHECK_FALSE(cpuid.find(leaf_encryption));
    cpuid.leaves[0].eax = 0x8000'001F;
    CHECK(cpuid.find(leaf_encryption)->eax == 0x21F);
    cpuid.leaves.erase(cpuid.leaves.begin());
    CHECK_FALSE(cpuid.find(leaf_encryption)); // no maximum, no leaf
}

TEST_CASE("find: a policy of Xen's leaves out zero leaves within the maximum") {
    CpuidLeaves cpuid{.leaves = {{.leaf = leaf_extended, .eax = 0x8000'0021}}, .zero_leaves_left_out = true};
    CHECK(cpuid.find(leaf_encryption) == CpuidLeaf{.leaf = leaf_encryption});
    CHECK_FALSE(cpuid.find(0x8000'0022));
    cpuid.zero_leaves_left_out = false;
    CHECK_FALSE(cpuid.find(leaf_encryption));
}

TEST_CASE("find takes subleaf 0 only") {
    const CpuidLeaves cpuid{.leaves = {{.leaf = leaf_extended, .eax = leaf_encryption}, {.leaf = leaf_encryption, .subleaf = 1, .eax = 0xF}}};
    CHECK_FALSE(cpuid.find(leaf_encryption));
}

TEST_CASE("EncryptionLeaf: known values, from public dumps") {
    // Naples (libvirt's CPU test data), Rome and Milan (public dumps), decoded by hand after the APM's table
    const auto naples = EncryptionLeaf::decode({leaf_encryption, 0, 0x0000'000F, 0x16F, 0xF, 1});
    CHECK(naples ==
          EncryptionLeaf{
              .sme = true, .sev = true, .sev_es = true, .page_flush_msr = true, .c_bit = 47, .address_bits_lost = 5, .asids = 15, .min_sev_asid = 1});
    CHECK(naples.es_asids() == 0);
    CHECK(naples.sev_asids() == 15);
    const auto milan = EncryptionLeaf::decode({leaf_encryption, 0, 0x0101'FD3F, 0x4173, 0x1FD, 0x80});
    CHECK(milan == EncryptionLeaf{.sme = true,
                                  .sev = true,
                                  .sev_es = true,
                                  .snp = true,
                                  .vmpl = true,
                                  .page_flush_msr = true,
                                  .c_bit = 51,
                                  .address_bits_lost = 5,
                                  .vmpls = 4,
                                  .asids = 509,
                                  .min_sev_asid = 128});
    CHECK(milan.es_asids() == 127);
    CHECK(milan.sev_asids() == 382);
}

TEST_CASE("EncryptionLeaf: the shared vectors") {
    const auto path = test::vector_file("platform/cpuid_8000001f.json");
    if (!path) return;
    std::size_t cases = 0;
    const auto vectors = json::parse(read_text(*path, 1 << 20), "vectors");
    for (const auto& one : vectors.at("cases")) {
        const auto word = [&](const char* key) { return static_cast<std::uint32_t>(std::stoul(one.at(key).get<std::string>(), nullptr, 16)); };
        const auto leaf = EncryptionLeaf::decode({leaf_encryption, 0, word("eax"), word("ebx"), word("ecx"), word("edx")});
        const auto& want = one.at("decoded");
        CHECK(leaf.sme == want.at("sme"));
        CHECK(leaf.sev == want.at("sev"));
        CHECK(leaf.sev_es == want.at("sev_es"));
        CHECK(leaf.snp == want.at("snp"));
        CHECK(leaf.c_bit == want.at("c_bit"));
        CHECK(leaf.address_bits_lost == want.at("phys_reduction"));
        CHECK(leaf.asids == want.at("max_asid"));
        CHECK(leaf.min_sev_asid == want.at("min_sev_asid"));
        CHECK(leaf.es_asids() == want.at("sev_es_asids"));
        CHECK(leaf.sev_asids() == want.at("sev_asids"));
        ++cases;
    }
    CHECK(cases >= 3);
}

TEST_CASE("EncryptionLeaf: the split at its edges") {
    const auto split = [](std::uint32_t highest, std::uint32_t lowest) {
        const EncryptionLeaf leaf{.asids = highest, .min_sev_asid = lowest};
        return std::pair{leaf.es_asids(), leaf.sev_asids()};
    };
    CHECK(split(15, 16) == std::pair{15U, 0U}); // all are SEV-ES's
    CHECK(split(15, 15) == std::pair{14U, 1U});
    CHECK(split(15, 1000) == std::pair{15U, 0U});
    CHECK(split(0, 0) == std::pair{0U, 0U});
    CHECK(split(0xFFFF'FFFF, 0xFFFF'FFFF) == std::pair{0xFFFF'FFFEU, 1U});
}

TEST_CASE("vendor and brand are the text of the leaves") {
    const auto probe = test::shipped("epyc-3151");
    CHECK(probe.cpuid_instruction.value()->vendor() == "AuthenticAMD");
    CHECK(probe.cpuid_instruction.value()->brand() == "AMD EPYC 3151 4-Core Processor");
    CHECK(CpuidLeaves{}.vendor().empty());
    CHECK(CpuidLeaves{}.brand().empty());
}

TEST_CASE("the instruction on this CPU gives leaves within its own maximum") {
    const auto reading = cpuid_by_instruction();
    REQUIRE(reading.value());
    for (const CpuidLeaf& leaf : reading.value()->leaves)
        if (leaf.leaf >= leaf_extended) CHECK(leaf.leaf <= std::max(reading.value()->highest(leaf_extended), leaf_extended));
    CHECK(cpuid_by_device("/nonexistent/cpuid").failed_with(2));
}

} // namespace
} // namespace sev::probe
