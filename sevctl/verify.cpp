// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/platform.hpp"
#include "sevctl/signed_cek.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "--sev",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "The platform's chain: PDH, PEK, OCA, CEK, and perhaps ASK and ARK, as sevctl export writes it. Without it this machine's "
                     "platform is asked.",
             .limit_bytes = 16 << 10},
    Argument{.name = "--oca", .kind = Kind::input, .metavar = "FILE", .help = "Take the OCA certificate from here.", .limit_bytes = 2084},
    ca_option,
    cek_option,
    cache_option,
    root_option,
    pin_option,
    device_option,
    json_option,
};

std::string line_of(const psp::SevCertificate& certificate) {
    const bool agreement = certificate.algorithm == psp::Algorithm::ecdh_sha256 || certificate.algorithm == psp::Algorithm::ecdh_sha384;
    const bool wide = psp::raw(certificate.algorithm) >= 0x100; // SHA-384
    const auto signed_bytes = certificate.signed_bytes();
    const auto* rsa = std::get_if<psp::RsaCertificateKey>(&certificate.key);
    const std::string key =
        rsa ? fmt::format("R{} R{}", rsa->bits, wide ? 384 : 256) : fmt::format("EP384 {}{}", agreement ? 'D' : 'E', wide ? 384 : 256);
    return fmt::format("{} {} {}", psp::name(certificate.usage), key, hex(hash(wide ? Hash::sha384 : Hash::sha256, signed_bytes)));
}

std::string line_of(const psp::CaCertificate& certificate) {
    return fmt::format("{} R{} R{} {}", psp::name(certificate.usage), certificate.bits, certificate.hash() == Hash::sha384 ? 384 : 256,
                       hex(hash(certificate.hash(), certificate.signed_bytes())));
}

bool signed_by(const psp::SevCertificate& child, const psp::SevCertificate& parent) {
    const psp::SignatureSlot* const slot = child.signature_by(parent.usage);
    return slot && psp::signature_valid(child, *slot, parent);
}
bool signed_by(const psp::SevCertificate& child, const psp::CaCertificate& parent) {
    const psp::SignatureSlot* const slot = child.signature_by(parent.usage);
    return slot && psp::signature_valid(child, *slot, parent);
}
bool signed_by(const psp::CaCertificate& child, const psp::CaCertificate& parent) { return psp::signature_valid(child, parent); }

/// One line of the tree: how `parent` signed `child`, and itself if it is a root.
template <class Child, class Parent>
std::string link(std::string_view indent, const std::optional<Child>& child, const std::optional<Parent>& parent, std::string_view name,
                 bool is_root) {
    if (!parent) return fmt::format("{} ? {} is missing\n", indent, name);
    const std::string_view itself = !is_root ? " " : signed_by(*parent, *parent) ? "•" : "•\u0337";
    const std::string_view signs = child && signed_by(*child, *parent) ? "⬑" : "⬑\u0338";
    return fmt::format("{}{}{} {}\n", indent, itself, signs, line_of(*parent));
}

std::string tree(const psp::Chain& chain) {
    std::string out = chain.pdh ? line_of(*chain.pdh) + "\n" : "? PDH is missing\n";
    out += link("", chain.pdh, chain.pek, "PEK", false);
    out += link("   ", chain.pek, chain.oca, "OCA", true);
    out += link("   ", chain.pek, chain.cek, "CEK", false);
    out += link("      ", chain.cek, chain.ask, "ASK", false);
    out += link("         ", chain.ask, chain.ark, "ARK", true);
    return out + "\n • = self signed, ⬑ = signs, •\u0337 = invalid self sign, ⬑\u0338 = invalid signs\n";
}

json::Value certificates_of(const psp::Chain& chain) {
    json::Value out = json::Value::object();
    const auto put = [&](const char* name, const auto& certificate) {
        if (certificate) out[name] = {{"algorithm", psp::name(certificate->algorithm)}, {"fingerprint", hex(certificate->fingerprint())}};
    };
    put("pdh", chain.pdh);
    put("pek", chain.pek);
    put("oca", chain.oca);
    put("cek", chain.cek);
    const auto put_ca = [&](const char* name, const auto& certificate) {
        if (certificate) out[name] = {{"algorithm", psp::name(certificate->algorithm())}, {"fingerprint", hex(certificate->fingerprint())}};
    };
    put_ca("ask", chain.ask);
    put_ca("ark", chain.ark);
    return out;
}

/// A chain, and what is known of where it comes from.
struct Subject {
    psp::Chain chain;
    std::string missing;   // why AMD's part is not at hand, and what to do; empty: a file's affair
    bool emulated = false; // it was read from an emulated device
};

/// This machine's chain, with AMD's part as far as it is at hand.
Subject of_platform(const Arguments& given, Console& console, const NamedEndorsement& named, const std::vector<psp::Root>& roots) {
    Platform platform = open_for_certificates(given, console);
    const psp::PlatformCertificates own = platform.certificates();
    Subject out{.chain = {.pdh = own.pdh, .pek = own.pek, .oca = own.oca, .cek = own.cek, .ask = {}, .ark = {}},
                .missing = {},
                .emulated = platform.emulated()};
    const auto search = find_signed_cek(given, named, own.cek, roots);
    if (search.found) {
        out.chain.cek = search.found->cek;
        out.chain.ask = search.found->ask;
        out.chain.ark = search.found->ark;
    } else {
        out.missing = fmt::format("{}; {}", search.reason, how_to_get_cek(platform.chip_ids(), own.cek));
    }
    return out;
}

Subject read_subject(const Arguments& given, Console& console, const std::vector<psp::Root>& roots) {
    const bool from_file = given.has("--sev");
    for (const std::string_view option : {cek_option.name, cache_option.name, device_option.name})
        if (from_file && given.has(option))
            throw Error{Fault::usage, fmt::format("{} is for this machine's platform, and --sev names a file: want one of them", option)};
    // Files first: nothing is asked of a device while a file is not what it should be.
    std::optional<psp::SevCertificate> oca;
    if (given.has("--oca")) {
        const std::string file = shown(given.text("--oca"));
        oca = psp::parse_sev_certificate(input_bytes(given, "--oca"), file);
        if (oca->usage != psp::Usage::oca)
            throw Error{Fault::malformed, fmt::format("{}: 8h PUBKEY_USAGE is {}, want OCA", file, psp::name(oca->usage))};
    }
    const NamedEndorsement named = named_endorsement(given);
    Subject out;
    if (from_file) out.chain = psp::parse_chain(input_bytes(given, "--sev"), shown(given.text("--sev")));
    else out = of_platform(given, console, named, roots);
    if (oca) out.chain.oca = *oca;
    if (from_file && named.ask) {
        out.chain.ask = named.ask;
        out.chain.ark = named.ark;
    }
    return out;
}

/// Who vouches for the chip.
std::string_view endorsement_of(const psp::Chain& chain, const psp::ChainVerdict& verdict) {
    if (verdict.root && verdict.root->pinned_cek) return "pinned";
    if (!chain.ask && !chain.ark) return "missing";
    return verdict.trusted() ? "verified" : "invalid";
}

std::string root_line(const psp::ChainVerdict& verdict) {
    const std::string_view emulated = verdict.emulated ? " (an emulated PSP: nothing is protected by hardware)" : "";
    if (!verdict.root->pinned_cek) return fmt::format("\nroot: {}{}\n", verdict.root->label, emulated);
    return fmt::format("\nendorsement missing; pinned: \"{}\" is trusted by your word for its CEK\n{}{}\n", verdict.root->label,
                       hex(verdict.root->fingerprint), emulated);
}

std::string how_to_go_on(const Subject& subject) {
    const std::string pin =
        subject.chain.cek ? fmt::format("; or, for a chip that you know otherwise, --pin-cek LABEL:PRODUCT:{}", hex(subject.chain.cek->fingerprint()))
                          : "";
    if (!subject.missing.empty()) return subject.missing + pin;
    return fmt::format("add --ca ask_ark_PRODUCT.cert from https://download.amd.com/developer/eula/sev/, PRODUCT being naples, rome or milan{}", pin);
}

Answer run(const Arguments& given, Console& console) {
    const std::vector<psp::Root> roots = trusted_roots(given);
    const Subject subject = read_subject(given, console, roots);
    const psp::Chain& chain = subject.chain;
    // without ASK and ARK the chain is judged only by a pin, and then in full: also where no pin fits it
    const bool judged = chain.ask || chain.ark || given.has(pin_option.name);
    psp::ChainVerdict verdict;
    if (judged)
        verdict = psp::verify_chain(chain, roots);
    else
        verdict.checks = psp::verify_platform_part(chain);
    verdict.emulated = verdict.emulated || subject.emulated;
    const std::string_view endorsement = endorsement_of(chain, verdict);

    if (console.json()) {
        json::Value result = result_of(given);
        result["valid"] = verdict.trusted();
        result["root"] = verdict.root ? json::Value(verdict.root->label) : json::Value();
        result["endorsement"] = endorsement;
        result["emulated"] = verdict.emulated;
        result["certificates"] = certificates_of(chain);
        result["checks"] = checks_as_json(verdict.checks);
        console.print(result);
    } else {
        std::string text = tree(chain);
        for (const psp::Check& check : verdict.checks)
            if (!check.passed) text += fmt::format("\ninvalid: {}: {}", check.check, check.detail);
        if (!psp::all_passed(verdict.checks)) text += "\n";
        if (verdict.trusted()) text += root_line(verdict);
        else if (endorsement == "missing") text += "\nendorsement missing: neither ASK nor ARK\n";
        console.print(text);
    }
    if (!judged && psp::all_passed(verdict.checks))
        throw Error{Fault::usage,
                    fmt::format("{}: endorsement missing: ends at the CEK: whether AMD made this platform is unknown without ASK and ARK",
                                given.has("--sev") ? shown(given.text("--sev")) : "this platform"),
                    how_to_go_on(subject)};
    return verdict.trusted() ? Answer::yes : Answer::no;
}

} // namespace

const Command verify_command{
    .name = "verify",
    .summary = "verify a platform's certificate chain",
    .text = "Verifies ARK, ASK, CEK, PEK, OCA and PDH: every signature, usage, algorithm, key id and curve, up to a root that is trusted. AMD's "
            "roots are "
            "built in by fingerprint; any other root, such as that of an emulated PSP, counts only when --root names it. Without --sev it is "
            "this machine's own platform, with the signed CEK found as sevctl export finds it.\n\n"
            "AMD's endorsement may not be to be had, as for some embedded parts: that is said as \"endorsement missing\". An owner who knows the "
            "chip by other means may pin it "
            "by its CEK (--pin-cek); the report says then that it is the owner's word, and not AMD's.\n\n"
            "The report is a tree as virtee's sevctl prints it, each certificate with its fingerprint and a mark for each signature, then each check "
            "that "
            "failed with its reason. Exit status 1: something is invalid. 2: no answer, for instance because ASK and ARK are missing.",
    .example = "sevctl verify --sev platform.chain --ca ask_ark_naples.cert",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
