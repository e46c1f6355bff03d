// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/backend.hpp"

#include "launch/daemon/image_source.hpp"
#include "launch/xen/source.hpp"
#include "psp/ccp/ccp_firmware.hpp"
#include "psp/emulator/emulated_firmware.hpp"
#include "psp/xen/xen_firmware.hpp"

namespace sev::daemon {
namespace {

constexpr std::size_t certificate_limit_bytes = 64 * 1024;

/// An emulated PSP with the memory it sees, as one thing: a command that hangs in it keeps it alive.
struct EmulatedPsp final : psp::Firmware {
    EmulatedPsp(const PspChoice& choice, bool measures_only)
        : emulator{psp::emulator::Emulator::open(choice.state, options(measures_only))}, inner{*emulator, space, choice.deadline} {}
    psp::Status issue(psp::CommandId id, psp::Call& call) override { return inner.issue(id, call); }
    void flush_caches() override { inner.flush_caches(); }
    std::string_view backend() const noexcept override { return inner.backend(); }
    static psp::emulator::Options options(bool measures_only) {
        psp::emulator::Options out;
        out.encrypt_memory = !measures_only;
        return out;
    }
    psp::AddressSpace space;
    std::unique_ptr<psp::emulator::Emulator> emulator;
    psp::emulator::EmulatedFirmware inner;
};

/// The emulated PSP lives in the daemon: foreign mappings of a Xen guest, which it must measure, cannot be handed to another process. So it dies with
/// the daemon as a machine's PSP does with its power, guest contexts and all.
struct EmulatedBackend final : Backend {
    explicit EmulatedBackend(const Configuration& configuration) {
        const auto chip = std::make_shared<EmulatedPsp>(configuration.psp, configuration.xen.has_value());
        const auto& identity = chip->emulator->identity();
        const auto& personality = chip->emulator->personality();
        for (const std::string& fault : configuration.psp.faults) chip->emulator->faults().add(psp::emulator::Fault::parse(fault));
        firmware = chip;
        endorsement = launch::Endorsement{identity.cek, identity.ask, identity.ark};
        asids = {.max = personality.max_asid, .min_sev = personality.min_sev_asid};
        emulated = true;
        level = 0;
        title = fmt::format("emulated PSP: {}; no AMD hardware{}", personality.title, configuration.xen ? "; measures only, for Xen" : "");
        pages = &chip->space;
        sources.push_back(std::make_unique<ImageSource>(chip->space, configuration.memory_limit_bytes));
        if (configuration.xen) sources.push_back(domains(*configuration.xen, chip->space, configuration.state));
    }
    /// libxl's processes are started by one that is forked here, before the daemon gives up exec.
    static std::unique_ptr<launch::GuestSource> domains(const XenHost& xen, psp::PageSource& space, const Path& scratch) {
        auto toolstack = launch::xen::keeper_toolstack({.program = xen.keeper, .xl = xen.xl}, launch::xen::forked_starter({xen.keeper, xen.xl}));
        return std::make_unique<launch::xen::DomainSource>(launch::xen::DomainSource::Parts{.toolstack = std::move(toolstack),
                                                                                            .pages = space,
                                                                                            .host = {.hvmloader = xen.hvmloader.value_or(""),
                                                                                                     .ovmf = xen.ovmf.value_or(""),
                                                                                                     .seabios = xen.seabios.value_or(""),
                                                                                                     .references = xen.references},
                                                                                            .scratch = scratch});
    }
};

/// What AMD says of this chip, from the files that the configuration names.
std::optional<launch::Endorsement> endorsement_of(const PspChoice& choice) {
    if (!choice.cek) return std::nullopt;
    const Bytes ca = read_file(*choice.ca, certificate_limit_bytes);
    const auto ask = psp::parse_ca_certificate_prefix(ca, choice.ca->string());
    const Bytes cek = read_file(*choice.cek, certificate_limit_bytes);
    return launch::Endorsement{psp::parse_sev_certificate(cek, choice.cek->string()), ask.certificate,
                               psp::parse_ca_certificate(ByteView{ca}.subspan(ask.used_bytes), choice.ca->string())};
}

struct CcpBackend final : Backend {
    explicit CcpBackend(const PspChoice& choice) {
        firmware = std::make_shared<psp::ccp::CcpFirmware>(choice.device, psp::ccp::Access::read_write);
        level = 2;
        title = fmt::format("AMD Secure Processor behind {}", choice.device.string());
        no_launches = "Linux's /dev/sev has no launch commands: guests of KVM are launched by KVM itself";
        endorsement = endorsement_of(choice);
    }
};

struct XenBackend final : Backend {
    XenBackend(const PspChoice& choice, std::unique_ptr<psp::xen::CocoCalls> calls) {
        const auto behind = std::make_shared<psp::xen::XenFirmware>(std::move(calls), choice.layout);
        const std::string_view layout = psp::xen::name(behind->layout());
        const psp::xen::CocoStatus& status = behind->status();
        firmware = behind;
        level = behind->level();
        title = fmt::format("AMD Secure Processor behind Xen's coco hypercall, layout {}", layout);
        if (status.version_build && (status.version_major != 0 || status.version_minor != 0))
            title += fmt::format(", firmware {}.{}.{}", status.version_major, status.version_minor, *status.version_build);
        no_launches =
            behind->layout() == psp::xen::Layout::rfc_2025_05
                ? fmt::format("Xen's coco hypercall, layout {}, gives no evidence of a guest and takes no secrets: no owner could judge it", layout)
                : fmt::format("Xen's coco hypercall, layout {}, does not return what LAUNCH_MEASURE gave: no owner frees a secret without it",
                              layout);
        endorsement = endorsement_of(choice);
    }
};

} // namespace

launch::GuestSource* Backend::source(std::string_view kind) const {
    for (const auto& each : sources)
        if (each->kind() == kind) return each.get();
    return nullptr;
}

std::unique_ptr<Backend> open_backend(const Configuration& configuration) {
    switch (configuration.psp.backend) {
    case PspChoice::Backend::emulated: return std::make_unique<EmulatedBackend>(configuration);
    case PspChoice::Backend::ccp: return std::make_unique<CcpBackend>(configuration.psp);
    case PspChoice::Backend::xen: return within("PSP backend xen", [&] { return open_xen_backend(configuration.psp, psp::xen::open_xencall()); });
    }
    throw Error{Fault::bug, "a PSP backend without a name"};
}

std::unique_ptr<Backend> open_xen_backend(const PspChoice& choice, std::unique_ptr<psp::xen::CocoCalls> calls) {
    return std::make_unique<XenBackend>(choice, std::move(calls));
}

} // namespace sev::daemon
