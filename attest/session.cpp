// SPDX-License-Identifier: Apache-2.0
#include "attest/session.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest {
namespace {

/// A secret whose bytes are drawn in place.
template <class Key>
Key drawn() {
    return Key::filled_by([](auto out) { random_bytes(out); });
}

/// The point of a PDH that may be used for key agreement.
const P384Point& checked_point(const psp::SevCertificate& pdh) {
    const auto refuse = [](std::string problem) { return Error{Fault::malformed, "PDH certificate: " + problem}; };
    if (pdh.usage != psp::Usage::pdh)
        throw refuse(fmt::format("8h PUBKEY_USAGE is 0x{:04x} ({}), want 0x1003 (PDH)", static_cast<std::uint32_t>(pdh.usage), psp::name(pdh.usage)));
    if (pdh.algorithm != psp::Algorithm::ecdh_sha256)
        throw refuse(fmt::format("Ch PUBKEY_ALGO is 0x{:04x} ({}), want 0x0003 (ECDH SHA-256)", static_cast<std::uint32_t>(pdh.algorithm),
                                 psp::name(pdh.algorithm)));
    const P384Point* point = pdh.point();
    if (!point) throw refuse("10h PUBKEY is an RSA key, want a point on P-384");
    if (!on_curve(*point)) throw refuse("14h QX and 5Ch QY are no point on P-384");
    return *point;
}

} // namespace

SessionFacts facts_of(const SessionOffer& offer, const psp::SevCertificate& pdh) {
    return {.id = offer.session_id,
            .launch_name = offer.launch_name,
            .policy = offer.policy,
            .report_nonce = offer.report_nonce,
            .pdh = pdh.fingerprint()};
}

Session::Session(SessionFacts facts, psp::Tek tek, psp::Tik tik)
    : facts_{std::move(facts)}, keys_{std::make_unique<psp::TransportKeys>(psp::TransportKeys{.tek = std::move(tek), .tik = std::move(tik)})} {}

const SessionFacts& Session::facts() const {
    require(!spent(), "a session is used once");
    return facts_;
}

const psp::Tek& Session::tek() const {
    require(!spent(), "a session is used once");
    return keys_->tek;
}

const psp::Tik& Session::tik() const {
    require(!spent(), "a session is used once");
    return keys_->tik;
}

psp::TransportKeys Session::spend() {
    require(!spent(), "a session is used once");
    const auto keys = std::exchange(keys_, nullptr);
    return std::move(*keys);
}

SessionMaterial SessionMaterial::fresh() {
    return {.godh = P384Key::generate(),
            .nonce = random_array<16>(),
            .wrap_iv = random_array<16>(),
            .tek = drawn<psp::Tek>(),
            .tik = drawn<psp::Tik>(),
            .id = random_array<16>(),
            .report_nonce = random_array<16>()};
}

CreatedSession create_session(const psp::SevCertificate& pdh, psp::Policy policy, std::string launch_name) {
    return create_session_from(pdh, policy, std::move(launch_name), SessionMaterial::fresh());
}

CreatedSession create_session_from(const psp::SevCertificate& pdh, psp::Policy policy, std::string launch_name, SessionMaterial material) {
    const P384Point& peer = checked_point(pdh);
    launch_name = checked_name(std::move(launch_name), "launch name");
    const SecretBytes z = material.godh.ecdh(peer);
    const psp::SessionKeys keys = psp::derive_session_keys(z.reveal(), material.nonce);
    const psp::SessionBlob blob = psp::wrap_session(keys, material.nonce, material.wrap_iv, material.tek, material.tik, policy);
    const psp::SevCertificate godh =
        psp::unsigned_certificate(psp::Usage::pdh, psp::Algorithm::ecdh_sha256, psp::ApiVersion{}, material.godh.public_point());
    SessionOffer offer{.session_id = material.id,
                       .launch_name = std::move(launch_name),
                       .policy = policy,
                       .godh = godh.serialize(),
                       .session = blob.serialize(),
                       .report_nonce = material.report_nonce};
    return {.session = Session{facts_of(offer, pdh), std::move(material.tek), std::move(material.tik)}, .offer = std::move(offer)};
}

psp::Policy policy_as_virtee_reads_it(psp::Policy policy) {
    const std::uint32_t major = policy.value >> 20 & 0xF, minor = policy.value >> 16 & 0xF;
    return {(policy.value & 0x3F) | major << 16 | minor << 24};
}

std::optional<std::string> virtee_policy_warning(psp::Policy policy) {
    const psp::Policy changed = policy_as_virtee_reads_it(policy);
    if (changed == policy) return std::nullopt;
    return fmt::format(
        "virtee's sevctl reads policy 0x{:08x} as 0x{:08x}: a session file it made for this policy fails LAUNCH_START with BAD_MEASUREMENT",
        policy.value, changed.value);
}

std::optional<std::string> virtee_policy_warning(psp::Policy policy, const psp::Tik& tik, const psp::SessionBlob& blob) {
    const psp::Policy changed = policy_as_virtee_reads_it(policy);
    const auto covers = [&](psp::Policy candidate) {
        return equal_in_constant_time(hmac_sha256(tik.reveal(), {wire::le32_bytes(candidate.value)}), blob.policy_mac);
    };
    if (changed == policy || covers(policy) || !covers(changed)) return std::nullopt;
    return fmt::format(
        "this session covers policy 0x{:08x}, not 0x{:08x}: virtee's sevctl made it so; launch with 0x{:08x}, or make the session anew",
        changed.value, policy.value, changed.value);
}

} // namespace sev::attest
