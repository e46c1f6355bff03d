// SPDX-License-Identifier: Apache-2.0
#include "psp/xen/xen_firmware.hpp"

#include <algorithm>

namespace sev::psp::xen {
namespace {

Error unusable(const CocoProbe& found) {
    using Answer = CocoProbe::Answer;
    const std::string_view remedy = [&]() -> std::string_view {
        switch (found.answer) {
        case Answer::absent: return "no released Xen has it; on this one guests are measured with the emulated PSP (\"backend\": \"emulated\")";
        case Answer::refused: return "only the hardware domain may ask: run it in dom0, as root";
        case Answer::unsupported: return "see xl dmesg for why Xen declined; 'sevctl status' says which layer is missing";
        default: return "where it is Vates' branch, name its layout: \"vates-a\" or \"vates-b\"; others need a newer xen-sev";
        }
    }();
    return {Fault::system, found.sentence, std::string{remedy}};
}

Error not_carried(CommandId id) {
    const CommandInfo* const info = find_command(static_cast<std::uint32_t>(id));
    const std::string name = info ? std::string{info->name} : fmt::format("command 0x{:02X}", static_cast<std::uint32_t>(id));
    return {Fault::usage, fmt::format("Xen's coco hypercall does not carry {}", name),
            "the hypervisor gives the PSP its commands itself, when a domain is made, built and unpaused"};
}

Bytes to_bytes(const SevCertificate& certificate) {
    const auto bytes = certificate.serialize();
    return {bytes.begin(), bytes.end()};
}

/// Hands `data` to the command's output and says how long it is, as the firmware does: with too little room the length alone.
bool put(Call& call, std::size_t index, Bytes data) {
    require(index < call.blobs.size() && call.blobs[index].direction == Blob::Direction::out, "a reply goes to an output of its command");
    Blob& blob = call.blobs[index];
    require(blob.length_at + 4 <= call.buffer.size(), "a blob's length lies in its command buffer");
    for (std::size_t i = 0; i < 4; ++i) call.buffer[blob.length_at + i] = static_cast<std::uint8_t>(data.size() >> (8 * i));
    if (data.size() > blob.data.size()) return false;
    blob.data = std::move(data);
    return true;
}

Error not_done(std::string_view what) {
    return {Fault::system, fmt::format("Xen says that it is done, and {}", what),
            "see xl dmesg for the firmware's status: no guest may run, and a platform that is owned takes no new owner"};
}

} // namespace

XenFirmware::XenFirmware(std::unique_ptr<CocoCalls> calls, std::optional<Layout> named) : calls_{std::move(calls)} {
    CocoProbe found = probe(*calls_, named);
    if (!found.coco) throw unusable(found);
    coco_ = std::move(found.coco);
    status_ = *found.status;
}

Status XenFirmware::export_certificates(Call& call) {
    const PlatformCertificates found = coco_->certificates().certificates;
    Bytes chain;
    for (const SevCertificate* each : {&found.pek, &found.oca, &found.cek}) std::ranges::copy(each->serialize(), std::back_inserter(chain));
    const bool first = put(call, 0, to_bytes(found.pdh)), second = put(call, 1, std::move(chain));
    return first && second ? Status::success : Status::invalid_length;
}

Status XenFirmware::get_id(Call& call) {
    const auto chips = coco_->certificates().chips;
    if (chips.empty())
        throw Error{Fault::system, "Xen gives no chip id: the PSP's firmware is older than API 0.16", "update the machine's firmware"};
    Bytes ids;
    for (const ChipId& chip : chips) std::ranges::copy(chip, std::back_inserter(ids));
    return put(call, 0, std::move(ids)) ? Status::success : Status::invalid_length;
}

void XenFirmware::regenerate(Coco::Key key) {
    const auto of = [&](const PlatformCertificates& all) { return (key == Coco::Key::pek ? all.pek : all.pdh).signed_bytes(); };
    const auto before = of(coco_->certificates().certificates);
    coco_->regenerate(key);
    if (of(coco_->certificates().certificates) == before)
        throw not_done(fmt::format("the {} is the old one", key == Coco::Key::pek ? "PEK" : "PDH"));
}

void XenFirmware::import_certificates(const Call& call) {
    require(call.blobs.size() == 2, "PEK_CERT_IMPORT has two inputs");
    const SevCertificate pek = parse_sev_certificate(call.blobs[0].data, "PEK certificate");
    const SevCertificate oca = parse_sev_certificate(call.blobs[1].data, "OCA certificate");
    coco_->certificates(); // a layout that could not show the change afterwards is told so before it
    coco_->import_certificates(pek, oca);
    const PlatformCertificates found = coco_->certificates().certificates;
    if (found.pek.signed_bytes() != pek.signed_bytes() || found.oca.signed_bytes() != oca.signed_bytes())
        throw not_done("the platform exports other certificates than the imported ones");
}

Status XenFirmware::issue(CommandId id, Call& call) {
    switch (id) {
    case CommandId::platform_status:
        throw Error{Fault::system,
                    fmt::format("Xen's coco hypercall, layout {}, does not tell the platform's STATE, OWNER, CONFIG and GUEST_COUNT", name(layout())),
                    "its certificates can be had; 'sevctl status' says what else is known"};
    case CommandId::pdh_cert_export: return export_certificates(call);
    case CommandId::get_id: return get_id(call);
    case CommandId::pek_csr: return put(call, 0, to_bytes(coco_->signing_request())) ? Status::success : Status::invalid_length;
    case CommandId::pek_gen: regenerate(Coco::Key::pek); return Status::success;
    case CommandId::pdh_gen: regenerate(Coco::Key::pdh); return Status::success;
    case CommandId::pek_cert_import: import_certificates(call); return Status::success;
    default: throw not_carried(id);
    }
}

} // namespace sev::psp::xen
