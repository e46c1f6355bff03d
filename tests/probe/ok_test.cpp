// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>

#include "tests/probe/support.hpp"

namespace sev::probe {
namespace {

struct Run {
    explicit Run(Probe of, std::optional<Generation> generation = std::nullopt)
        : probe{std::move(of)}, ok{ok_report(probe, assess(probe), generation)} {}
    Outcome outcome(std::string_view name) const {
        const auto found = std::ranges::find(ok.lines, name, &OkLine::name);
        REQUIRE(found != ok.lines.end());
        return found->outcome;
    }
    Probe probe;
    OkReport ok;
};

/// A Milan host in which everything that SEV-ES needs is there.
Probe good() { return test::shipped("epyc-7443"); }

TEST_CASE("ok passes where everything is there, for the generation that was asked") {
    CHECK(Run{good(), Generation::sev}.ok.passed());
    CHECK(Run{good(), Generation::es}.ok.passed());
    CHECK_FALSE(Run{good(), Generation::snp}.ok.passed()); // SYSCFG[24] is 0
    CHECK(Run{test::shipped("epyc-3151"), Generation::sev}.ok.passed());
    CHECK_FALSE(Run{test::shipped("epyc-3151"), Generation::es}.ok.passed()); // no SEV-ES ASIDs
}

TEST_CASE("ok without a generation asks for the highest that CPUID shows, and for sev where it shows none") {
    CHECK(Run{good()}.ok.generation == Generation::snp);
    CHECK(Run{test::shipped("epyc-3151")}.ok.generation == Generation::es);
    CHECK(Run{test::shipped("intel")}.ok.generation == Generation::sev);
    CHECK(Run{Probe{}}.ok.generation == Generation::sev);
}

TEST_CASE("ok: tests below a failed one are skipped, those of a later generation are skipped without counting") {
    const Run intel{test::shipped("intel")};
    CHECK(intel.outcome("AMD CPU") == Outcome::fail);
    CHECK(intel.outcome("Secure Encrypted Virtualization (SEV)") == Outcome::skip);
    CHECK(intel.outcome("C-bit location") == Outcome::skip);
    CHECK_FALSE(intel.ok.passed());
    const Run sev{good(), Generation::sev};
    CHECK(sev.outcome("Secure Nested Paging (SEV-SNP)") == Outcome::skip);
    CHECK(sev.outcome("SEV-ES enabled in KVM") == Outcome::skip);
}

TEST_CASE("ok: each thing broken alone makes the answer no") {
    const auto breaks = [](auto&& change) {
        Probe p = good();
        change(p);
        CHECK_FALSE(Run{p, Generation::es}.ok.passed());
    };
    breaks([](Probe& p) { p.msr_syscfg = std::uint64_t{0}; });
    breaks([](Probe& p) { p.msr_hwcr = std::uint64_t{0}; });
    breaks([](Probe& p) { test::leaf_of(p.cpuid_instruction, leaf_encryption).eax &= ~1U; });
    breaks([](Probe& p) { test::leaf_of(p.cpuid_instruction, leaf_encryption).eax &= ~2U; });
    breaks([](Probe& p) { test::leaf_of(p.cpuid_instruction, leaf_encryption).eax &= ~8U; });
    breaks([](Probe& p) { test::leaf_of(p.cpuid_instruction, leaf_encryption).edx = 1; });
    breaks([](Probe& p) { test::leaf_of(p.cpuid_instruction, leaf_encryption).edx = 510; });
    breaks([](Probe& p) { test::leaf_of(p.cpuid_instruction, leaf_extended).eax = 0x8000'001E; });
    breaks([](Probe& p) { p.kvm_sev = std::string{"N"}; });
    breaks([](Probe& p) { p.kvm_sev_es = std::string{"N"}; });
    breaks([](Probe& p) { p.kvm_api = Failure{ENOENT, "No such file or directory"}; });
    breaks([](Probe& p) { p.sev_device_read = Failure{EACCES, "Permission denied"}; });
    breaks([](Probe& p) { p.sev_device_write = Failure{EACCES, "Permission denied"}; });
    breaks([](Probe& p) { p.sev_device_kernel_made = false; });
    breaks([](Probe& p) { p.platform_status = Failure{EIO, "Input/output error"}; });
    breaks([](Probe& p) { p.memlock_soft = Failure{EPERM, "Operation not permitted"}; });
    breaks([](Probe& p) { p.cpu_microcode = Failure{ENOENT, "No such file or directory"}; });
}

TEST_CASE("ok: what cannot be known is no pass: dom0's SMEE") {
    Probe p = test::shipped("epyc-3151-xen-4.17");
    const Run stock{p, Generation::sev};
    CHECK(stock.outcome("SEV in Xen") == Outcome::fail);
    CHECK(stock.outcome("Secure Memory Encryption (SME)") == Outcome::skip);
    CHECK_FALSE(stock.ok.passed());
    CHECK(std::ranges::none_of(stock.ok.lines, [](const OkLine& line) { return line.name.find("KVM") != std::string::npos; }));
    CHECK(render(stock.ok).find("unknown: what Xen shows dom0 as") != std::string::npos);
}

TEST_CASE("ok: its last line is the answer, and each failure names its page") {
    CHECK(render(Run{good(), Generation::es}.ok).ends_with("\nes: yes\n"));
    const std::string text = render(Run{test::shipped("epyc-7601"), Generation::sev}.ok);
    CHECK(text.find("see docs/checks/bios-smee.md") != std::string::npos);
    CHECK(text.find("sev: no: ") != std::string::npos);
}

TEST_CASE("an empty report is no pass") { CHECK_FALSE(OkReport{.generation = Generation::sev, .lines = {}}.passed()); }

TEST_CASE("each check has its page, each page its check, and both have the same title and remedy") {
    std::set<std::string> pages;
    for (const auto& entry : std::filesystem::directory_iterator{"docs/checks"})
        if (entry.path().extension() == ".md" && entry.path().stem() != "README") pages.insert(entry.path().stem().string());
    for (const CheckInfo& info : all_checks()) {
        CAPTURE(info.id);
        CHECK(pages.erase(std::string{info.id}) == 1);
        const std::string page = read_text(Path{"docs/checks"} / (std::string{info.id} + ".md"), 64 * 1024);
        CHECK(page.starts_with(fmt::format("# {}: {}\n", info.id, info.title)));
        for (const char* const section : {"\n## What is looked at\n", "\n## Why it fails\n", "\n## What to do\n"})
            CHECK_MESSAGE(page.find(section) != std::string::npos, section);
    }
    for (const std::string& page : pages) FAIL_CHECK("no check has this page: " << page);
    std::set<std::string_view> ids;
    for (const CheckInfo& info : all_checks()) CHECK(ids.insert(info.id).second);
}

} // namespace
} // namespace sev::probe
