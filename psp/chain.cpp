// SPDX-License-Identifier: Apache-2.0
#include "psp/chain.hpp"

namespace sev::psp {
namespace {

constexpr std::size_t sev_size = SevCertificate::wire_size;

/// Takes certificates off the front of a chain, each held against the usage that its place demands.
class Taker {
public:
    Taker(ByteView bytes, std::string_view what) : rest_{bytes}, what_{what} {}

    SevCertificate sev(Usage place) {
        const std::string subject = fmt::format("{}: {} certificate", what_, name(place));
        SevCertificate out = parse_sev_certificate(rest_.first(std::min(sev_size, rest_.size())), subject);
        rest_ = rest_.subspan(sev_size);
        if (out.usage != place) {
            throw Error{Fault::malformed, fmt::format("{}: 008h PUBKEY_USAGE is 0x{:x} ({}), want 0x{:x} ({})", subject, raw(out.usage),
                                                      name(out.usage), raw(place), name(place))};
        }
        return out;
    }
    CaCertificate ca(Usage place) {
        const std::string subject = fmt::format("{}: {} certificate", what_, name(place));
        ParsedCa parsed = parse_ca_certificate_prefix(rest_, subject);
        rest_ = rest_.subspan(parsed.used_bytes);
        if (parsed.certificate.usage != place) {
            throw Error{Fault::malformed, fmt::format("{}: 24h KEY_USAGE is 0x{:x} ({}), want 0x{:x} ({})", subject, raw(parsed.certificate.usage),
                                                      name(parsed.certificate.usage), raw(place), name(place))};
        }
        return std::move(parsed.certificate);
    }
    void done() const {
        if (!rest_.empty()) throw Error{Fault::malformed, fmt::format("{}: {} bytes left over after the last certificate", what_, rest_.size())};
    }

private:
    ByteView rest_;
    std::string_view what_;
};

/// A single SEV certificate goes to the place its own usage names.
Chain one_certificate(ByteView bytes, std::string_view what) {
    SevCertificate certificate = parse_sev_certificate(bytes, what);
    Chain out;
    switch (certificate.usage) {
    case Usage::pdh: out.pdh = std::move(certificate); return out;
    case Usage::pek: out.pek = std::move(certificate); return out;
    case Usage::oca: out.oca = std::move(certificate); return out;
    case Usage::cek: out.cek = std::move(certificate); return out;
    case Usage::ark:
    case Usage::ask:
    case Usage::invalid: break;
    }
    throw Error{Fault::malformed, fmt::format("{}: 008h PUBKEY_USAGE is 0x{:x} ({}), want 0x1001..0x1004 (OCA, PEK, PDH, CEK)", what,
                                              raw(certificate.usage), name(certificate.usage))};
}

} // namespace

Chain parse_chain(ByteView bytes, std::string_view what) {
    bool with_pdh = false, with_platform = false, with_ca = false;
    switch (bytes.size()) {
    case sev_size: return one_certificate(bytes, what);
    case 3 * sev_size: with_platform = true; break;
    case 4 * sev_size: with_pdh = with_platform = true; break;
    case 4 * sev_size + 832 + 576: // the Naples ARK as AMD publishes it
    case 4 * sev_size + 2 * 832:
    case 4 * sev_size + 2 * 1600: with_pdh = with_platform = with_ca = true; break;
    case 832 + 576:
    case 2 * 832:
    case 2 * 1600: with_ca = true; break;
    default:
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, want 2084 (one certificate), 6252 (PEK, OCA, CEK), 8336 (PDH, PEK, OCA, CEK), "
                                                  "9744, 10000 or 11536 (the same with ASK and ARK), or 1408, 1664 or 3200 (ASK, ARK)",
                                                  what, bytes.size())};
    }
    Taker take{bytes, what};
    Chain out;
    if (with_pdh) out.pdh = take.sev(Usage::pdh);
    if (with_platform) {
        out.pek = take.sev(Usage::pek);
        out.oca = take.sev(Usage::oca);
        out.cek = take.sev(Usage::cek);
    }
    if (with_ca) {
        out.ask = take.ca(Usage::ask);
        out.ark = take.ca(Usage::ark);
    }
    take.done();
    return out;
}

Bytes Chain::serialize() const {
    Bytes out;
    bool ended = false;
    const auto put = [&](const auto& certificate) {
        if (!certificate) {
            ended = ended || !out.empty();
            return;
        }
        require(!ended, "a chain to be written has no gap between its first and its last certificate");
        const auto bytes = certificate->serialize();
        out.insert(out.end(), bytes.begin(), bytes.end());
    };
    put(pdh);
    put(pek);
    put(oca);
    put(cek);
    put(ask);
    put(ark);
    return out;
}

} // namespace sev::psp
