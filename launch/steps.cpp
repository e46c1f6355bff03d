// SPDX-License-Identifier: Apache-2.0
#include "launch/steps.hpp"

#include <utility>

#include <fmt/format.h>

namespace sev::launch {
namespace {

/// One LAUNCH_UPDATE_DATA takes a 32-bit length; larger runs are cut, which does not change the digest.
constexpr std::uint64_t largest_update = std::uint64_t{1} << 30;

psp::AttestationReport attest(const GuestContext& context, const psp::Mnonce& mnonce) {
    return psp::run(context.firmware(), psp::Attestation{.guest = context.handle(), .mnonce = mnonce});
}

} // namespace

GuestContext::GuestContext(GuestContext&& other) noexcept
    : firmware_{other.firmware_}, asids_{other.asids_}, handle_{std::exchange(other.handle_, psp::GuestHandle{})},
      asid_{std::exchange(other.asid_, psp::Asid{})}, suspect_{other.suspect_},
      before_end_{std::exchange(other.before_end_, nullptr)} {}

GuestContext::~GuestContext() {
    try {
        destroy();
    } catch (const std::exception&) {
        // The PSP would not let go of it, or its guest may be there. The ASID is retired, so nothing of it is reused; whoever wants to know why calls
        // destroy().
    }
}

void GuestContext::activate(psp::Asid asid) {
    psp::Status status{};
    try {
        status = psp::attempt(*firmware_, psp::Activate{.guest = handle_, .asid = asid}).status;
    } catch (...) {
        asids_->retire(asid); // no answer: the PSP may have installed the key all the same
        suspect_ = asid;
        throw;
    }
    if (status != psp::Status::success) {
        asids_->release(asid);
        throw psp::refusal(psp::Activate::name, status);
    }
    asid_ = asid;
}

void GuestContext::destroy() {
    const psp::GuestHandle handle = std::exchange(handle_, psp::GuestHandle{});
    const psp::Asid asid = std::exchange(asid_, psp::Asid{});
    if (handle == psp::GuestHandle{}) return;
    if (asid != psp::Asid{}) {
        try {
            if (before_end_) before_end_();
            psp::run(*firmware_, psp::Deactivate{.guest = handle});
        } catch (...) {
            asids_->retire(asid);
            asids_->note_stuck({.handle = handle, .asid = asid});
            throw;
        }
        asids_->release(asid);
    }
    try {
        psp::run(*firmware_, psp::Decommission{.guest = handle});
    } catch (...) {
        asids_->note_stuck({.handle = handle, .asid = suspect_});
        throw;
    }
}

Started Started::start(psp::Firmware& firmware, AsidPool& asids, const psp::LaunchStart& command) {
    const bool es = command.policy.wants_es();
    const auto asid = asids.take(es, firmware);
    if (!asid) throw no_asid_free(asids, es);
    return start(firmware, asids, *asid, command, [](psp::GuestHandle) {});
}

Started Started::start(psp::Firmware& firmware, AsidPool& asids, psp::Asid asid, const psp::LaunchStart& command,
                       const std::function<void(psp::GuestHandle)>& started) {
    std::optional<GuestContext> context;
    try {
        context.emplace(firmware, asids, psp::run(firmware, command));
        started(context->handle());
    } catch (...) {
        asids.release(asid); // no guest context took it
        throw;
    }
    context->activate(asid);
    return Started{std::move(*context)};
}

void Started::update_data(const GuestMemory& memory, psp::Gpa start, std::uint64_t length_bytes) {
    for (const Run& run : memory.locate(start, length_bytes)) {
        for (std::uint64_t done = 0; done < run.length_bytes; done += largest_update) {
            const auto length = static_cast<std::uint32_t>(std::min(largest_update, run.length_bytes - done));
            psp::run(context_.firmware(), psp::LaunchUpdateData{.guest = context_.handle(), .at = run.at + done, .length_bytes = length});
        }
    }
}

void Started::update_vmsa(psp::SystemAddress page) {
    psp::run(context_.firmware(), psp::LaunchUpdateVmsa{.guest = context_.handle(), .at = page});
}

Measured Started::measure() && {
    const auto measurement = psp::run(context_.firmware(), psp::LaunchMeasure{.guest = context_.handle()});
    return Measured{std::move(context_), measurement};
}

psp::AttestationReport Measured::report(const psp::Mnonce& mnonce) const { return attest(context_, mnonce); }

void Measured::inject_secret(const GuestMemory& memory, psp::Gpa at, const ByteArray<0x34>& header, ByteView data) {
    const auto runs = memory.locate(at, data.size());
    if (runs.size() != 1)
        throw Error{Fault::usage, fmt::format("secret of {} bytes at {:#x}: lies in {} pieces, want one", data.size(), psp::raw(at), runs.size())};
    psp::run(context_.firmware(),
             psp::LaunchSecret{.guest = context_.handle(), .header = header, .at = runs[0].at, .data = {data.begin(), data.end()}});
}

Running Measured::finish() && {
    psp::run(context_.firmware(), psp::LaunchFinish{.guest = context_.handle()});
    return Running{std::move(context_)};
}

std::optional<Running> Running::adopt(psp::Firmware& firmware, AsidPool& asids, psp::GuestHandle handle, psp::Asid asid) {
    // a platform without guests, which may be UNINIT, does not allow the question
    if (psp::run(firmware, psp::GetPlatformStatus{}).guest_count == 0) return std::nullopt;
    const auto answer = psp::attempt(firmware, psp::GetGuestStatus{.guest = handle});
    if (answer.status == psp::Status::invalid_guest) return std::nullopt;
    if (!answer.reply) throw psp::refusal(psp::GetGuestStatus::name, answer.status);
    if (answer.reply->state != psp::GuestState::running || answer.reply->asid != asid) return std::nullopt;
    asids.adopt(asid);
    return Running{GuestContext{firmware, asids, handle, asid}};
}

psp::AttestationReport Running::report(const psp::Mnonce& mnonce) const { return attest(context_, mnonce); }

} // namespace sev::launch
