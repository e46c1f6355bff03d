// SPDX-License-Identifier: Apache-2.0
#include "launch/platform.hpp"

#include <fmt/format.h>

namespace sev::launch {

namespace {
constexpr std::uint32_t tmr_bytes = 0x10'0000; // 1 MiB, aligned to its size. Source: SEV API, INIT.
}

InitialisedPlatform::InitialisedPlatform(psp::Firmware& firmware, psp::PageSource& pages) : firmware_{firmware} {
    if (psp::run(firmware_, psp::GetPlatformStatus{}).state != psp::PlatformState::uninit) return;
    auto tmr = pages.allocate(tmr_bytes, tmr_bytes);
    psp::run(firmware_, psp::Init{.es = true, .tmr = tmr->at(), .tmr_length_bytes = tmr_bytes});
    firmware_.flush_caches();
    psp::run(firmware_, psp::DfFlush{});
    tmr_ = std::move(tmr);
}

InitialisedPlatform::~InitialisedPlatform() {
    if (!tmr_ || leave_) return;
    try {
        psp::run(firmware_, psp::Shutdown{});
    } catch (const Error&) {
        // A PSP that does not answer any more cannot be shut down; nothing of ours depends on it now.
    }
}

psp::Chain platform_chain(psp::Firmware& firmware, const std::optional<Endorsement>& endorsement) {
    auto exported = psp::run(firmware, psp::PdhCertExport{});
    psp::Chain chain{.pdh = exported.pdh, .pek = exported.pek, .oca = exported.oca, .cek = exported.cek, .ask = std::nullopt, .ark = std::nullopt};
    if (endorsement) {
        if (endorsement->cek.signed_bytes() != exported.cek.signed_bytes())
            throw Error{Fault::malformed,
                        fmt::format("endorsement is of another chip: CEK {}, and the PSP exports {}", hex(endorsement->cek.fingerprint()),
                                    hex(exported.cek.fingerprint())),
                        "fetch the endorsement for the id that GET_ID gives"};
        chain.cek = endorsement->cek;
        chain.ask = endorsement->ask;
        chain.ark = endorsement->ark;
    }
    return chain;
}

attest::PlatformEvidence platform_evidence(psp::Firmware& firmware, const std::optional<Endorsement>& endorsement, unsigned level) {
    attest::PlatformEvidence evidence;
    evidence.status = psp::run(firmware, psp::GetPlatformStatus{});
    evidence.chain = platform_chain(firmware, endorsement).serialize();
    const auto ids = psp::attempt(firmware, psp::GetId{});
    if (ids.reply && !ids.reply->empty()) evidence.chip_id = ids.reply->front();
    const auto backend = attest::backend_named(firmware.backend());
    require(backend.has_value(), "the backend has a name in the protocol");
    evidence.backend = *backend;
    evidence.level = level;
    return evidence;
}

} // namespace sev::launch
