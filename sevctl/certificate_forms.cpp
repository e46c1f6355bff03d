// SPDX-License-Identifier: Apache-2.0
#include "sevctl/certificate_forms.hpp"

#include <fmt/format.h>

namespace sev::cli {
namespace {

Bytes to_bytes(std::string_view text) { return {text.begin(), text.end()}; }

/// RFC 7468's lines of 64 characters, with labels of our own: these are no X.509 certificates.
std::string armoured(ByteView bytes, std::string_view label) {
    constexpr std::size_t width = 64;
    const std::string text = base64(bytes);
    std::string out = fmt::format("-----BEGIN {}-----\n", label);
    for (std::size_t at = 0; at < text.size(); at += width) out += text.substr(at, width) + "\n";
    return out + fmt::format("-----END {}-----\n", label);
}

template <class Certificate>
Bytes in_any_form(const Certificate& certificate, std::string_view form, std::string_view label) {
    const auto raw = certificate.serialize();
    if (form == "hex") return to_bytes(hex(raw) + "\n");
    if (form == "pem") return to_bytes(armoured(raw, label));
    if (form == "json") return to_bytes(json::pretty(certificate_as_json(certificate)));
    return {raw.begin(), raw.end()};
}

json::Value key_as_json(const psp::SevCertificate& certificate) {
    if (const P384Point* const point = certificate.point()) return {{"curve", "P-384"}, {"x", hex(point->x)}, {"y", hex(point->y)}};
    const auto& rsa = std::get<psp::RsaCertificateKey>(certificate.key);
    return {{"bits", rsa.bits}, {"exponent_le", hex(rsa.exponent)}, {"modulus_le", hex(rsa.modulus)}};
}

} // namespace

Bytes in_form(const psp::SevCertificate& certificate, std::string_view form) {
    return in_any_form(certificate, form, fmt::format("SEV {} CERTIFICATE", psp::name(certificate.usage)));
}
Bytes in_form(const psp::CaCertificate& certificate, std::string_view form) {
    return in_any_form(certificate, form, fmt::format("SEV {} CERTIFICATE", psp::name(certificate.usage)));
}

json::Value certificate_as_json(const psp::SevCertificate& certificate) {
    json::Value signatures = json::Value::array();
    for (const psp::SignatureSlot& slot : certificate.signatures)
        signatures.push_back(
            slot.empty() ? json::Value()
                         : json::Value{{"usage", psp::name(slot.usage)}, {"algorithm", psp::name(slot.algorithm)}, {"bytes_le", hex(slot.bytes)}});
    return {{"format", "xen-sev/sev-certificate"},
            {"version", 1},
            {"usage", psp::name(certificate.usage)},
            {"algorithm", psp::name(certificate.algorithm)},
            {"api", certificate.api.text()},
            {"fingerprint", hex(certificate.fingerprint())},
            {"key", key_as_json(certificate)},
            {"signatures", std::move(signatures)},
            {"binary", base64(certificate.serialize())}};
}

json::Value certificate_as_json(const psp::CaCertificate& certificate) {
    return {{"format", "xen-sev/ca-certificate"},
            {"version", 1},
            {"usage", psp::name(certificate.usage)},
            {"algorithm", psp::name(certificate.algorithm())},
            {"bits", certificate.bits},
            {"key_id", hex(certificate.key_id)},
            {"certifying_id", hex(certificate.certifying_id)},
            {"fingerprint", hex(certificate.fingerprint())},
            {"exponent_le", hex(certificate.exponent)},
            {"modulus_le", hex(certificate.modulus)},
            {"signature_le", certificate.signature ? json::Value(hex(*certificate.signature)) : json::Value()},
            {"binary", base64(certificate.serialize())}};
}

} // namespace sev::cli
