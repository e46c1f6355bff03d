// SPDX-License-Identifier: Apache-2.0
#include "psp/structures.hpp"

#include "psp/p384_field.hpp"

namespace sev::psp {
namespace {

PlatformState platform_state(std::uint8_t value) {
    if (value > 2) throw Error{Fault::malformed, fmt::format("02h STATE is {}, want 0..2", value)};
    return PlatformState{value};
}

GuestState guest_state(std::uint8_t value) {
    if (value > 6) throw Error{Fault::malformed, fmt::format("0Ch STATE is {}, want 0..6", value)};
    return GuestState{value};
}

ByteArray<48> signature_number(wire::View<p384_field_size> field, std::string_view where) {
    const auto number = from_p384_field(field);
    if (!number) throw Error{Fault::malformed, fmt::format("attestation report: {} is wider than the 48 bytes of P-384", where)};
    return *number;
}

} // namespace

PlatformStatus PlatformStatus::parse(wire::View<wire_size> v) {
    return {
        .build = {.major = wire::u8<0x00>(v), .minor = wire::u8<0x01>(v), .build = wire::u8<0x07>(v)},
        .state = platform_state(wire::u8<0x02>(v)),
        .externally_owned = (wire::u8<0x03>(v) & 0x01) != 0, // OWNER bit 0
        .es_configured = (wire::le16<0x04>(v) & 0x0001) != 0, // CONFIG bit 0, ES
        .guest_count = wire::le32<0x08>(v),
    };
}

ByteArray<PlatformStatus::wire_size> PlatformStatus::serialize() const {
    ByteArray<wire_size> out{};
    const auto v = wire::span(out);
    wire::put_u8<0x00>(v, build.major);
    wire::put_u8<0x01>(v, build.minor);
    wire::put_u8<0x02>(v, raw(state));
    wire::put_u8<0x03>(v, externally_owned ? 1 : 0);
    wire::put_le16<0x04>(v, es_configured ? 1 : 0);
    wire::put_u8<0x07>(v, build.build);
    wire::put_le32<0x08>(v, guest_count);
    return out;
}

GuestStatus GuestStatus::parse(wire::View<wire_size> v) {
    return {
        .handle = GuestHandle{wire::le32<0x00>(v)},
        .policy = Policy{wire::le32<0x04>(v)},
        .asid = Asid{wire::le32<0x08>(v)},
        .state = guest_state(wire::u8<0x0C>(v)),
    };
}

LaunchMeasurement LaunchMeasurement::parse(wire::View<wire_size> v) {
    return {.measure = wire::bytes<0x00, 32>(v), .mnonce = wire::bytes<0x20, 16>(v)};
}

ByteArray<LaunchMeasurement::wire_size> LaunchMeasurement::serialize() const {
    ByteArray<wire_size> out{};
    const auto v = wire::span(out);
    wire::put_bytes<0x00>(v, measure);
    wire::put_bytes<0x20>(v, mnonce);
    return out;
}

AttestationReport AttestationReport::parse(wire::View<wire_size> v) {
    if (const std::uint32_t usage = wire::le32<0x34>(v); usage != raw(Usage::pek)) {
        throw Error{Fault::malformed, fmt::format("attestation report: 34h SIG_USAGE is 0x{:x}, want 0x1002 (PEK)", usage)};
    }
    if (const std::uint32_t algorithm = wire::le32<0x38>(v); algorithm != raw(Algorithm::ecdsa_sha256)) {
        throw Error{Fault::malformed, fmt::format("attestation report: 38h SIG_ALGO is 0x{:x}, want 0x2 (ECDSA SHA-256)", algorithm)};
    }
    if (const std::uint32_t reserved = wire::le32<0x3C>(v); reserved != 0) {
        throw Error{Fault::malformed, fmt::format("attestation report: 3Ch reserved is 0x{:x}, want 0", reserved)};
    }
    return {
        .mnonce = wire::bytes<0x00, 16>(v),
        .launch_digest = wire::bytes<0x10, 32>(v),
        .policy = Policy{wire::le32<0x30>(v)},
        .signature = {.r = signature_number(wire::part<0x40, p384_field_size>(v), "40h R"),
                      .s = signature_number(wire::part<0x88, p384_field_size>(v), "88h S")},
    };
}

ByteArray<AttestationReport::signed_size> AttestationReport::signed_bytes() const {
    ByteArray<signed_size> out{};
    const auto v = wire::span(out);
    wire::put_bytes<0x00>(v, mnonce);
    wire::put_bytes<0x10>(v, launch_digest);
    wire::put_le32<0x30>(v, policy.value);
    return out;
}

ByteArray<AttestationReport::wire_size> AttestationReport::serialize() const {
    ByteArray<wire_size> out{};
    const auto v = wire::span(out);
    wire::put_bytes<0x00>(v, signed_bytes());
    wire::put_le32<0x34>(v, raw(Usage::pek));
    wire::put_le32<0x38>(v, raw(Algorithm::ecdsa_sha256));
    put_p384_field<0x40>(v, signature.r);
    put_p384_field<0x88>(v, signature.s);
    return out;
}

bool AttestationReport::signed_by(const SevCertificate& pek) const {
    const P384Point* point = pek.point();
    if (!point || pek.usage != Usage::pek || pek.algorithm != Algorithm::ecdsa_sha256) return false;
    return ecdsa_verify(*point, sha256(signed_bytes()), signature);
}

} // namespace sev::psp
