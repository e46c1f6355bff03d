// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/platform_evidence.hpp"

#include <array>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::array<std::string_view, highest_level + 1> level_texts{
    "L0: no launch on a platform; digests and an emulated PSP",
    "L1: software-measured launch; memory is not encrypted, dom0 is trusted",
    "L2: platform status and certificates; no launch",
    "L3: memory is encrypted; no evidence reaches the guest owner",
    "L4: memory is encrypted, attested, and gets its secrets from the PSP",
    "L5: memory is encrypted and so are registers (SEV-ES), attested, secrets from the PSP",
};

psp::PlatformState state_named(json::Object& status) {
    const std::string found = status.string("state", 16);
    for (const auto state : {psp::PlatformState::uninit, psp::PlatformState::init, psp::PlatformState::working})
        if (psp::name(state) == found) return state;
    status.refuse("state", fmt::format("is \"{}\", want UNINIT, INIT or WORKING", printable(found)));
}

} // namespace

std::string_view name(Backend backend) {
    switch (backend) {
    case Backend::emulated: return "emulated";
    case Backend::ccp: return "ccp";
    case Backend::xen: return "xen";
    }
    return "undefined";
}

std::optional<Backend> backend_named(std::string_view wanted) {
    for (const auto backend : {Backend::emulated, Backend::ccp, Backend::xen})
        if (name(backend) == wanted) return backend;
    return std::nullopt;
}

std::string level_text(unsigned level) {
    require(level <= highest_level, "a ladder level is 0 to 5");
    return std::string{level_texts[level]};
}

PlatformEvidence PlatformEvidence::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    PlatformEvidence out;
    out.chain = object.base64("chain", chain_limit_bytes);
    out.status.build = psp::Build::parse(object.string("build", 16), object.what() + ": build");
    json::Object status = object.object("status");
    out.status.state = state_named(status);
    out.status.externally_owned = status.boolean("externally_owned");
    out.status.es_configured = status.boolean("es_configured");
    out.status.guest_count = static_cast<std::uint32_t>(status.number("guest_count", UINT32_MAX));
    status.done();
    if (object.has("chip_id")) out.chip_id = object.hex<64>("chip_id");
    const std::string backend = object.string("backend", 32);
    const auto known = backend_named(backend);
    if (!known) object.refuse("backend", fmt::format("is \"{}\", want emulated, ccp or xen", printable(backend)));
    out.backend = *known;
    out.level = static_cast<unsigned>(object.number("level", highest_level));
    object.done();
    return out;
}

json::Value PlatformEvidence::to_json() const {
    json::Value out = with_format(format, version);
    out["chain"] = base64(chain);
    out["build"] = status.build.text();
    json::Value& s = out["status"];
    s["state"] = psp::name(status.state);
    s["externally_owned"] = status.externally_owned;
    s["es_configured"] = status.es_configured;
    s["guest_count"] = status.guest_count;
    if (chip_id) out["chip_id"] = hex(*chip_id);
    out["backend"] = name(backend);
    out["level"] = level;
    return out;
}

} // namespace sev::attest
