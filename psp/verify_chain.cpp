// SPDX-License-Identifier: Apache-2.0
#include "psp/chain.hpp"
#include "psp/roots.hpp"
#include "psp/signature.hpp"

namespace sev::psp {
namespace {

constexpr std::size_t max_rsa_bytes = 512;

/// The checks of one verdict, in the order they are made.
class Report {
public:
    bool add(std::string_view link, std::string_view field, bool passed, std::string detail) {
        checks_.push_back({.check = fmt::format("chain.{}.{}", link, field), .passed = passed, .detail = std::move(detail)});
        return passed;
    }
    void add(std::string check, bool passed, std::string detail) {
        checks_.push_back({.check = std::move(check), .passed = passed, .detail = std::move(detail)});
    }
    bool present(std::string_view link, Usage usage, bool there) {
        return add(link, "present", there, fmt::format("the {} certificate is {}", name(usage), there ? "there" : "missing"));
    }
    std::vector<Check> take() { return std::move(checks_); }

private:
    std::vector<Check> checks_;
};

std::string code(Usage usage) { return fmt::format("0x{:x} ({})", raw(usage), name(usage)); }
std::string code(Algorithm algorithm) { return fmt::format("0x{:x} ({})", raw(algorithm), name(algorithm)); }

bool is_rsa(Algorithm algorithm) { return algorithm == Algorithm::rsa_sha256 || algorithm == Algorithm::rsa_sha384; }

bool is_zero(ByteView bytes) {
    return std::ranges::all_of(bytes, [](std::uint8_t b) { return b == 0; });
}

/// What is wrong with an RSA key of `bits` whose numbers are little-endian and fill their fields; empty when nothing is.
std::string rsa_problem(std::uint32_t bits, ByteView exponent, ByteView modulus) {
    constexpr ByteArray<3> e65537{0x01, 0x00, 0x01};
    if (bits != 2048 && bits != 4096) return fmt::format("the key has {} bits, want 2048 or 4096", bits);
    if (exponent.size() < 3 || !std::ranges::equal(exponent.first(3), e65537) || !is_zero(exponent.subspan(3))) return "PUBEXP is not 65537";
    const std::size_t size_bytes = bits / 8;
    if (modulus.size() < size_bytes || !is_zero(modulus.subspan(size_bytes))) return fmt::format("MODULUS does not have {} bits", bits);
    if ((modulus[size_bytes - 1] & 0x80) == 0) return fmt::format("MODULUS has its top bit clear, want {} bits", bits);
    if ((modulus[0] & 0x01) == 0) return "MODULUS is even";
    return {};
}

void rsa_key(Report& report, std::string_view link, std::uint32_t bits, const std::string& problem) {
    report.add(link, "rsa_key", problem.empty(), problem.empty() ? fmt::format("RSA with {} bits and exponent 65537", bits) : problem);
}

/// ARK and ASK: what the certificate says of itself.
void ca_fields(Report& report, std::string_view link, const CaCertificate& certificate, Usage want) {
    const bool fits = certificate.usage == want;
    report.add(link, "usage", fits,
               fits ? fmt::format("KEY_USAGE is {}", code(want)) : fmt::format("24h KEY_USAGE is {}, want {}", code(certificate.usage), code(want)));
    std::string problem = rsa_problem(certificate.bits, certificate.exponent, certificate.modulus);
    if (problem.empty() && (certificate.exponent.size() != certificate.bits / 8 || certificate.modulus.size() != certificate.bits / 8)) {
        problem = fmt::format("PUBEXP and MODULUS have {} and {} bytes, want {} each", certificate.exponent.size(), certificate.modulus.size(),
                              certificate.bits / 8);
    }
    rsa_key(report, link, certificate.bits, problem);
}

void certifying_id(Report& report, std::string_view link, const CaCertificate& certificate, const CaCertificate& parent) {
    const bool same = certificate.certifying_id == parent.key_id;
    report.add(link, "certifying_id", same,
               same ? fmt::format("CERTIFYING_ID {} is the ARK's KEY_ID", hex(certificate.certifying_id))
                    : fmt::format("14h CERTIFYING_ID is {}, want {} (KEY_ID of the ARK)", hex(certificate.certifying_id), hex(parent.key_id)));
}

void key_id(Report& report, std::string_view link, const CaCertificate& certificate, const ByteArray<16>& want, Product product) {
    const bool same = certificate.key_id == want;
    report.add(link, "key_id", same,
               same ? fmt::format("KEY_ID {} is that of AMD's {}", hex(want), name(product))
                    : fmt::format("04h KEY_ID is {}, want {} of AMD's {}", hex(certificate.key_id), hex(want), name(product)));
}

void ca_signature(Report& report, std::string_view link, const CaCertificate& certificate, const std::optional<CaCertificate>& parent) {
    std::string problem;
    if (!parent) {
        problem = "the ARK that should have signed it is missing";
    } else if (!certificate.signature) {
        problem = "SIGNATURE is missing";
    } else if (certificate.signature->size() != parent->modulus.size()) {
        problem = fmt::format("SIGNATURE has {} bytes, want {} as the ARK's modulus", certificate.signature->size(), parent->modulus.size());
    } else if (parent->modulus.size() > max_rsa_bytes || !signature_valid(certificate, *parent)) {
        problem = "SIGNATURE is not the ARK's over these bytes";
    }
    report.add(link, "signature_by_ark", problem.empty(), problem.empty() ? std::string{"the ARK's signature is valid"} : problem);
}

const Root* ark_root(Report& report, const CaCertificate& ark, const std::vector<Root>& roots) {
    if (roots.empty()) return nullptr; // chain.roots has failed: there is nothing to hold the ARK against
    const Digest fingerprint = ark.fingerprint();
    const auto found = std::ranges::find_if(roots, [&](const Root& root) { return !root.pinned_cek && root.fingerprint == fingerprint; });
    if (found != roots.end()) {
        report.add("ark", "root", true, fmt::format("the ARK is the pinned root \"{}\"", found->label));
        return &*found;
    }
    const auto claims = product_of(ark.key_id);
    const std::string who = ark.key_id == emulated_ark_key_id ? std::string{"of an emulated PSP"}
                            : claims                          ? fmt::format("claims to be AMD's {}", name(*claims))
                                                              : std::string{"of no known product"};
    report.add("ark", "root", false,
               fmt::format("the ARK (KEY_ID {}, {}) has fingerprint {}, which is none of the {} pinned roots", hex(ark.key_id), who, hex(fingerprint),
                           roots.size()));
    return nullptr;
}

/// What a link of the lower chain must be.
struct Place {
    std::string_view link;
    Usage usage;
    Algorithm algorithm;        // the one that AMD's firmware makes
    std::vector<Usage> signers; // each may have one slot
};

bool algorithm_fits(const Place& place, Algorithm algorithm) {
    // An owner makes the OCA with tools of their own; the format allows them RSA and SHA-384 there.
    if (place.usage == Usage::oca) return algorithm == Algorithm::ecdsa_sha256 || algorithm == Algorithm::ecdsa_sha384 || is_rsa(algorithm);
    return algorithm == place.algorithm;
}

void sev_fields(Report& report, const Place& place, const SevCertificate& certificate) {
    const bool usage_fits = certificate.usage == place.usage;
    report.add(place.link, "usage", usage_fits,
               usage_fits ? fmt::format("PUBKEY_USAGE is {}", code(place.usage))
                          : fmt::format("008h PUBKEY_USAGE is {}, want {}", code(certificate.usage), code(place.usage)));
    const bool fits = algorithm_fits(place, certificate.algorithm) && is_rsa(certificate.algorithm) != (certificate.point() != nullptr);
    report.add(place.link, "algorithm", fits,
               fits ? fmt::format("PUBKEY_ALGO is {}", code(certificate.algorithm))
                    : fmt::format("00Ch PUBKEY_ALGO is {} on {}, want {}", code(certificate.algorithm),
                                  certificate.point() ? "a P-384 key" : "an RSA key",
                                  place.usage == Usage::oca ? "ECDSA or RSA-PSS" : code(place.algorithm)));
    if (const P384Point* point = certificate.point()) {
        const bool on = on_curve(*point);
        report.add(place.link, "curve", on, on ? "the public point is on P-384" : "014h PUBKEY: the point QX, QY is not on P-384");
    } else {
        const auto& rsa = std::get<RsaCertificateKey>(certificate.key);
        rsa_key(report, place.link, rsa.bits, rsa_problem(rsa.bits, rsa.exponent, rsa.modulus));
    }
}

/// Every slot is a signer's, one each, or really empty.
void slots(Report& report, const Place& place, const SevCertificate& certificate) {
    std::vector<Usage> allowed = place.signers;
    std::string problem;
    for (std::size_t i = 0; i < certificate.signatures.size() && problem.empty(); ++i) {
        const SignatureSlot& slot = certificate.signatures[i];
        const std::string_view offset = i == 0 ? "414h SIG1" : "61Ch SIG2";
        if (slot.empty()) {
            const bool really = slot.algorithm == Algorithm::none && is_zero(slot.bytes);
            if (!really) problem = fmt::format("{} says it is empty, but its bytes are not zero", offset);
        } else if (const auto it = std::ranges::find(allowed, slot.usage); it != allowed.end()) {
            allowed.erase(it);
        } else {
            problem = fmt::format("{} is a surplus signature by {}", offset, code(slot.usage));
        }
    }
    report.add(place.link, "slots", problem.empty(), problem.empty() ? std::string{"no surplus signature"} : problem);
}

template <class Parent>
std::string signature_problem(const SevCertificate& certificate, Usage signer, const std::optional<Parent>& parent) {
    if (!parent) return fmt::format("the {} that should have signed it is missing", name(signer));
    const SignatureSlot* slot = certificate.signature_by(signer);
    if (!slot) return fmt::format("no slot has a signature by {}", code(signer));
    const bool first = slot == &certificate.signatures[0];
    Algorithm want{};
    if constexpr (std::is_same_v<Parent, CaCertificate>) {
        want = parent->algorithm();
    } else {
        want = parent->algorithm;
    }
    if (slot->algorithm != want) {
        return fmt::format("{} is {}, want {} as the {}'s key", first ? "418h SIG1_ALGO" : "620h SIG2_ALGO", code(slot->algorithm), code(want),
                           name(signer));
    }
    if (signed_with_key_of(certificate, *slot, *parent)) return {};
    return fmt::format("{} is not the {}'s signature over these bytes", first ? "41Ch SIG1" : "624h SIG2", name(signer));
}

template <class Parent>
void signature(Report& report, std::string_view link, std::string_view field, const SevCertificate& certificate, Usage signer,
               const std::optional<Parent>& parent) {
    const std::string problem = signature_problem(certificate, signer, parent);
    report.add(link, field, problem.empty(), problem.empty() ? fmt::format("the {}'s signature is valid", name(signer)) : problem);
}

void check_oca(Report& report, const Chain& chain) {
    if (!report.present("oca", Usage::oca, chain.oca.has_value())) return;
    const Place place{"oca", Usage::oca, Algorithm::ecdsa_sha256, {Usage::oca}};
    sev_fields(report, place, *chain.oca);
    slots(report, place, *chain.oca);
    signature(report, "oca", "signature_by_oca", *chain.oca, Usage::oca, chain.oca);
}

void check_pdh(Report& report, const Chain& chain) {
    if (!report.present("pdh", Usage::pdh, chain.pdh.has_value())) return;
    const Place place{"pdh", Usage::pdh, Algorithm::ecdh_sha256, {Usage::pek}};
    sev_fields(report, place, *chain.pdh);
    slots(report, place, *chain.pdh);
    signature(report, "pdh", "signature_by_pek", *chain.pdh, Usage::pek, chain.pek);
}

/// Whether the CEK's signature of the PEK is judged, or may just be there.
enum class Endorsement { judged, tolerated };

void check_pek(Report& report, const Chain& chain, Endorsement endorsement) {
    if (!report.present("pek", Usage::pek, chain.pek.has_value())) return;
    const Place place{"pek", Usage::pek, Algorithm::ecdsa_sha256, {Usage::oca, Usage::cek}};
    sev_fields(report, place, *chain.pek);
    slots(report, place, *chain.pek);
    signature(report, "pek", "signature_by_oca", *chain.pek, Usage::oca, chain.oca);
    if (endorsement == Endorsement::judged) signature(report, "pek", "signature_by_cek", *chain.pek, Usage::cek, chain.cek);
}

void check_cek(Report& report, const Chain& chain) {
    if (!report.present("cek", Usage::cek, chain.cek.has_value())) return;
    const Place place{"cek", Usage::cek, Algorithm::ecdsa_sha256, {Usage::ask}};
    sev_fields(report, place, *chain.cek);
    slots(report, place, *chain.cek);
    signature(report, "cek", "signature_by_ask", *chain.cek, Usage::ask, chain.ask);
}

/// The pin that stands in for an endorsement which the chain lacks altogether: one that is there is judged, not waived.
const Root* pin_of(const Chain& chain, const std::vector<Root>& roots) {
    if (chain.ark || chain.ask || !chain.cek) return nullptr;
    const Digest fingerprint = chain.cek->fingerprint();
    const auto found = std::ranges::find_if(roots, [&](const Root& root) { return root.pinned_cek && root.fingerprint == fingerprint; });
    return found == roots.end() ? nullptr : &*found;
}

/// No signer may fill a slot: with nothing to verify it, it would be bytes that no check covers.
void check_pinned_cek(Report& report, const SevCertificate& cek, const Root& pin) {
    report.present("cek", Usage::cek, true);
    report.add("cek", "pinned", true,
               fmt::format("endorsement: pinned by the owner as \"{}\", not AMD's; the CEK's fingerprint is {}", pin.label, hex(pin.fingerprint)));
    const Place place{"cek", Usage::cek, Algorithm::ecdsa_sha256, {}};
    sev_fields(report, place, cek);
    slots(report, place, cek);
}

/// ARK, ASK and CEK; returns the root that the ARK matched.
const Root* check_endorsement(Report& report, const Chain& chain, const std::vector<Root>& roots, bool& emulated) {
    const Root* root = nullptr;
    std::optional<CaCertificate> ark = chain.ark;
    if (report.present("ark", Usage::ark, ark.has_value())) {
        ark = completed(*std::move(ark));
        emulated = ark->key_id == emulated_ark_key_id;
        root = ark_root(report, *ark, roots);
        ca_fields(report, "ark", *ark, Usage::ark);
        if (root && root->amd) key_id(report, "ark", *ark, ids_of(root->product).ark, root->product);
        certifying_id(report, "ark", *ark, *ark);
        ca_signature(report, "ark", *ark, ark);
    }
    if (report.present("ask", Usage::ask, chain.ask.has_value())) {
        ca_fields(report, "ask", *chain.ask, Usage::ask);
        if (root && root->amd) key_id(report, "ask", *chain.ask, ids_of(root->product).ask, root->product);
        if (ark) certifying_id(report, "ask", *chain.ask, *ark);
        ca_signature(report, "ask", *chain.ask, ark);
    }
    check_cek(report, chain);
    return root;
}

} // namespace

ChainVerdict verify_chain(const Chain& chain, const std::vector<Root>& roots) {
    ChainVerdict verdict;
    Report report;
    report.add("chain.roots", !roots.empty(),
               roots.empty() ? std::string{"the set of roots is empty: nothing can be trusted"} : fmt::format("{} pinned roots", roots.size()));

    if (const Root* pin = pin_of(chain, roots)) {
        check_pinned_cek(report, *chain.cek, *pin);
        verdict.root = *pin;
    } else if (const Root* root = check_endorsement(report, chain, roots, verdict.emulated)) {
        verdict.root = *root;
    }
    check_oca(report, chain);
    check_pek(report, chain, Endorsement::judged);
    check_pdh(report, chain);
    verdict.checks = report.take();
    return verdict;
}

std::vector<Check> verify_platform_part(const Chain& chain) {
    Report report;
    check_oca(report, chain);
    check_pek(report, chain, Endorsement::tolerated);
    check_pdh(report, chain);
    return report.take();
}

} // namespace sev::psp
