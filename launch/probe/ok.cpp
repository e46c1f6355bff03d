// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/ok.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "launch/probe/columns.hpp"

namespace sev::probe {
namespace {

constexpr unsigned step = 2;

Generation shown_by(const Report& report) {
    if (report.feature("SEV-SNP").silicon.yes()) return Generation::snp;
    if (report.feature("SEV-ES").silicon.yes()) return Generation::es;
    return Generation::sev;
}

/// Builds the tree line by line; a failed or skipped test takes what is below it with it.
class Tree {
public:
    explicit Tree(OkReport& out) : out_{out} {}

    /// Opens a level below the line just added, for as long as `body` runs.
    template <class Body>
    void below(Body&& body) {
        const bool outer = open_;
        open_ = open_ && out_.lines.back().outcome == Outcome::pass;
        depth_ += step;
        body();
        depth_ -= step;
        open_ = outer;
    }
    void test(std::string name, Generation generation, const Fact& fact, std::string check, std::string detail = {}) {
        const bool asked = generation <= out_.generation;
        OkLine line{.depth = depth_, .outcome = Outcome::skip, .name = std::move(name), .detail = {}, .check = std::move(check), .asked = asked};
        if (asked && open_) {
            if (fact.yes()) line.outcome = Outcome::pass;
            if (fact.no()) line.outcome = Outcome::fail;
            line.detail = fact.yes() ? std::move(detail) : fact.because;
            if (fact.unknown()) line.detail = "unknown: " + line.detail;
        }
        out_.lines.push_back(std::move(line));
    }
    /// A value that is shown; it passes when it is known.
    void value(std::string name, Generation generation, const std::optional<std::string>& value, std::string why_not) {
        test(std::move(name), generation, value ? fact(true, {}, {}, Confidence::direct) : unknown(std::move(why_not)), {}, value.value_or(""));
    }

private:
    OkReport& out_;
    unsigned depth_ = 0;
    bool open_ = true;
};

/// no beats unknown beats yes.
Fact both(const Fact& a, const Fact& b) {
    if (a.no()) return a;
    if (b.no()) return b;
    return a.yes() ? b : a;
}

std::string limit_text(const Reading<std::uint64_t>& reading) {
    if (!reading.value()) return "unknown";
    return *reading.value() == ~std::uint64_t{0} ? "unlimited" : std::to_string(*reading.value());
}

void launchers(Tree& tree, const Report& report) {
    const auto check = [&](std::string_view id) { return report.check(id).fact; };
    if (report.machine.place == Place::xen_dom0) {
        tree.test("SEV in Xen", Generation::sev, both(check("xen-coco"), check("xen-sev")),
                  report.check("xen-coco").fact.yes() ? "xen-sev" : "xen-coco");
        tree.test("SEV-ES in Xen", Generation::es, both(check("xen-coco"), check("xen-sev-es")),
                  report.check("xen-coco").fact.yes() ? "xen-sev-es" : "xen-coco");
        tree.test("Evidence and secrets in Xen", Generation::sev, both(check("xen-coco"), check("xen-attestation")),
                  report.check("xen-coco").fact.yes() ? "xen-attestation" : "xen-coco");
        return;
    }
    tree.test("SEV enabled in KVM", Generation::sev, check("kvm-sev"), "kvm-sev", "enabled");
    tree.test("SEV-ES enabled in KVM", Generation::es, check("kvm-sev-es"), "kvm-sev-es", "enabled");
    tree.test("Reading /dev/sev", Generation::sev, check("psp-device").yes() ? check("psp-access") : check("psp-device"),
              check("psp-device").yes() ? "psp-access" : "psp-device", "/dev/sev readable");
}

} // namespace

std::string_view name(Generation generation) {
    switch (generation) {
    case Generation::sev: return "sev";
    case Generation::es: return "es";
    case Generation::snp: return "snp";
    }
    return "sev";
}

std::string_view name(Outcome outcome) {
    switch (outcome) {
    case Outcome::pass: return "PASS";
    case Outcome::fail: return "FAIL";
    case Outcome::skip: return "SKIP";
    }
    return "SKIP";
}

bool OkReport::passed() const {
    const bool any = std::ranges::any_of(lines, [](const OkLine& line) { return line.asked; });
    return any && std::ranges::all_of(lines, [](const OkLine& line) { return !line.asked || line.outcome == Outcome::pass; });
}

OkReport ok_report(const Probe& probe, const Report& report, std::optional<Generation> generation) {
    OkReport out{.generation = generation.value_or(shown_by(report)), .lines = {}};
    Tree tree{out};
    const auto check = [&](std::string_view id) { return report.check(id).fact; };
    const auto& leaf = report.machine.encryption;
    const auto number = [&](auto member) { return leaf ? std::optional{std::to_string((*leaf).*member)} : std::nullopt; };
    const std::string no_leaf = report.machine.leaf.because;
    const bool dom0 = report.machine.place == Place::xen_dom0;

    tree.test("AMD CPU", Generation::sev, check("cpu-vendor"), "cpu-vendor");
    tree.below([&] {
        tree.value("Microcode revision", Generation::sev, probe.cpu_microcode.value() ? std::optional{*probe.cpu_microcode.value()} : std::nullopt,
                   probe.cpu_microcode.why_not());
        tree.test("Secure Memory Encryption (SME)", Generation::sev, both(report.feature("SME").silicon, check("bios-smee")),
                  report.feature("SME").silicon.yes() ? "bios-smee" : "silicon-sme");
        tree.test("Secure Encrypted Virtualization (SEV)", Generation::sev, report.feature("SEV").silicon, "silicon-sev");
        tree.below([&] {
            tree.test("Encrypted State (SEV-ES)", Generation::es, report.feature("SEV-ES").silicon, "silicon-sev-es");
            tree.test("Secure Nested Paging (SEV-SNP)", Generation::snp, both(report.feature("SEV-SNP").silicon, report.feature("SEV-SNP").enabled),
                      report.feature("SEV-SNP").silicon.yes() ? "bios-snp" : "silicon-sev-snp");
            tree.below([&] {
                const bool vmpl = leaf && leaf->vmpl;
                tree.test(
                    "VM Permission Levels", Generation::snp,
                    fact(vmpl, vmpl ? "" : "the VMPL bit of leaf 0x8000001f is 0", report.machine.cpuid_source, report.machine.cpuid_confidence),
                    "silicon-sev-snp");
                tree.below([&] { tree.value("Number of VMPLs", Generation::snp, number(&EncryptionLeaf::vmpls), no_leaf); });
            });
            tree.value("Physical address bit reduction", Generation::sev, number(&EncryptionLeaf::address_bits_lost), no_leaf);
            tree.value("C-bit location", Generation::sev, number(&EncryptionLeaf::c_bit), no_leaf);
            tree.value("Number of encrypted guests supported simultaneously", Generation::sev, number(&EncryptionLeaf::asids), no_leaf);
            tree.value("Minimum ASID value for SEV-enabled, SEV-ES disabled guest", Generation::sev, number(&EncryptionLeaf::min_sev_asid), no_leaf);
            tree.test("ASIDs for SEV guests", Generation::sev, check("bios-sev-asids"), "bios-sev-asids",
                      leaf ? std::to_string(leaf->sev_asids()) : "");
            tree.test("ASIDs for SEV-ES guests", Generation::es, check("bios-sev-es-asids"), "bios-sev-es-asids",
                      leaf ? std::to_string(leaf->es_asids()) : "");
            tree.test("SMM locked", Generation::sev, check("bios-smm-lock"), "bios-smm-lock");
            launchers(tree, report);
            if (!dom0) {
                const auto& write = probe.sev_device_write;
                tree.test("Writing /dev/sev", Generation::sev,
                          fact(write.value() != nullptr, fmt::format("/dev/sev not writable: {}", printable(write.why_not())), "/dev/sev",
                               Confidence::direct),
                          "psp-access", "/dev/sev writable");
                tree.test("The kernel's own /dev/sev", Generation::sev, check("psp-genuine"), "psp-genuine");
                tree.test("Platform status", Generation::sev, check("psp-status"), "psp-status",
                          report.psp ? fmt::format("API {}", report.psp->status.build.text()) : "");
                tree.test("PSP initialised", Generation::sev, check("psp-initialised"), "psp-initialised");
                tree.test("PSP initialised for SEV-ES", Generation::es, check("psp-sev-es"), "psp-sev-es");
            }
        });
        tree.test("Page flush MSR", Generation::sev, leaf ? fact(true, {}, {}, Confidence::direct) : unknown(no_leaf), {},
                  leaf && leaf->page_flush_msr ? "ENABLED" : "DISABLED");
    });
    if (!dom0)
        tree.test("KVM supported", Generation::sev,
                  check("kvm-device").truth == Truth::not_applicable && probe.kvm_api.value() ? fact(true, {}, {}, Confidence::direct)
                                                                                              : check("kvm-device"),
                  "kvm-device", probe.kvm_api.value() ? fmt::format("API version: {}", *probe.kvm_api.value()) : "");
    if (!dom0)
        tree.test("Memlock resource limit", Generation::sev,
                  probe.memlock_soft.value() ? fact(true, {}, {}, Confidence::direct) : unknown(probe.memlock_soft.why_not()), {},
                  fmt::format("Soft: {} | Hard: {}", limit_text(probe.memlock_soft), limit_text(probe.memlock_hard)));
    return out;
}

std::string render(const OkReport& report) {
    std::string out;
    std::size_t failed = 0, undecided = 0;
    for (const OkLine& line : report.lines) {
        failed += line.asked && line.outcome == Outcome::fail ? 1 : 0;
        undecided += line.asked && line.outcome == Outcome::skip ? 1 : 0;
        const std::string head = fmt::format("[ {:^4} ] {:{}}- ", name(line.outcome), "", line.depth);
        out += labelled(head, line.detail.empty() ? line.name : fmt::format("{}: {}", line.name, line.detail), head.size());
        if (line.outcome == Outcome::fail && !line.check.empty())
            out += labelled("", fmt::format("{:{}}  see docs/checks/{}.md", "", line.depth, line.check), 9);
    }
    if (report.passed()) return out + fmt::format("{}: yes\n", name(report.generation));
    return out + fmt::format("{}: no: {} failed, {} skipped or not known from here\n", name(report.generation), failed, undecided);
}

} // namespace sev::probe
