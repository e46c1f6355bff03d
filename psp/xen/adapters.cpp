// SPDX-License-Identifier: Apache-2.0
#include "psp/xen/adapters.hpp"

namespace sev::psp::xen {

using wire_format::Operation;

namespace {

constexpr std::uint64_t page_bytes = 4096;
constexpr std::size_t certificate_bytes = SevCertificate::wire_size;

ByteArray<wire_format::prepare_size> range_argument(std::uint16_t domain, std::uint64_t first, std::uint64_t second) {
    ByteArray<wire_format::prepare_size> out{};
    wire::put_le16<0>(wire::span(out), domain);
    wire::put_le64<8>(wire::span(out), first);
    wire::put_le64<16>(wire::span(out), second);
    return out;
}
static_assert(wire_format::prepare_size == wire_format::area_size, "operations 1 and 10 take the same shape");

/// The report in the bytes of either layout. Throws Error{Fault::malformed} when it does not bear the nonce it was asked for.
AttestationReport report_with(wire::View<AttestationReport::wire_size> bytes, const Mnonce& mnonce) {
    AttestationReport report = AttestationReport::parse(bytes);
    if (report.mnonce != mnonce)
        throw Error{Fault::malformed,
                    fmt::format("attestation report: 00h MNONCE is {}, want the one asked for, {}", hex(report.mnonce), hex(mnonce))};
    return report;
}

/// The certificates, chip ids and number of sockets in the answer of operation 3.
template <std::size_t ChainAt, std::size_t ChipsAt, std::size_t SocketsAt>
CocoCertificates certificates_at(wire::View<wire_format::certificates_size> v) {
    const auto read = [](wire::View<certificate_bytes> bytes, std::string_view what) {
        return within("the answer of coco operation 3", [&] { return parse_sev_certificate(bytes, what); });
    };
    CocoCertificates out{.certificates = {.pdh = read(wire::part<ChainAt, certificate_bytes>(v), "PDH certificate"),
                                          .pek = read(wire::part<ChainAt + certificate_bytes, certificate_bytes>(v), "PEK certificate"),
                                          .oca = read(wire::part<ChainAt + 2 * certificate_bytes, certificate_bytes>(v), "OCA certificate"),
                                          .cek = read(wire::part<ChainAt + 3 * certificate_bytes, certificate_bytes>(v), "CEK certificate")},
                         .chips = {wire::bytes<ChipsAt, sizeof(ChipId)>(v), wire::bytes<ChipsAt + sizeof(ChipId), sizeof(ChipId)>(v)}};
    const std::uint8_t sockets = wire::u8<SocketsAt>(v);
    if (sockets > out.chips.size())
        throw Error{Fault::malformed,
                    fmt::format("the answer of coco operation 3: {:02X}h cpu_number is {}, want 0 to {}", SocketsAt, sockets, out.chips.size())};
    out.chips.resize(sockets);
    return out;
}

} // namespace

void RfcCoco::lacks(Operation operation) const {
    throw Error{Fault::system,
                fmt::format("coco operation {} ({}): layout {} does not have it", static_cast<std::uint32_t>(operation), wire_format::name(operation),
                            name(layout())),
                "guests of this Xen can be encrypted, and not attested: level L3"};
}

CocoStatus RfcCoco::status() {
    ByteArray<CocoStatus::rfc_size> argument{};
    ask(Operation::platform_status, argument);
    return CocoStatus::parse_rfc(wire::view(argument));
}

void RfcCoco::prepare_initial_memory(std::uint16_t domain, std::uint64_t gfn, std::uint64_t frames) {
    auto argument = range_argument(domain, gfn, frames);
    ask(Operation::prepare_initial_memory, argument);
}

void RfcCoco::finish_initial_memory(std::uint16_t) { lacks(Operation::finish_initial_memory); }
AttestationReport RfcCoco::report(std::uint16_t, const Mnonce&) { lacks(Operation::attestation_report); }
void RfcCoco::set_secrets_area(std::uint16_t, Gpa, std::uint64_t) { lacks(Operation::set_secrets_area); }
void RfcCoco::update_secret(std::uint16_t, Gpa, const ByteArray<0x34>&, ByteView) { lacks(Operation::update_secrets); }
CocoCertificates RfcCoco::certificates() { lacks(Operation::platform_certificates); }
SevCertificate RfcCoco::signing_request() { lacks(Operation::signing_request); }
void RfcCoco::regenerate(Key) { lacks(Operation::regenerate_certificate); }
void RfcCoco::import_certificates(const SevCertificate&, const SevCertificate&) { lacks(Operation::import_certificate); }

CocoStatus VatesCoco::status() {
    ByteArray<CocoStatus::vates_size> argument{};
    ask(Operation::platform_status, argument);
    return CocoStatus::parse_vates(wire::view(argument));
}

void VatesCoco::finish_initial_memory(std::uint16_t domain) {
    ByteArray<wire_format::finish_size> argument{};
    wire::put_le16<0>(wire::span(argument), domain);
    ask(Operation::finish_initial_memory, argument);
}

AttestationReport VatesCoco::report(std::uint16_t domain, const Mnonce& mnonce) {
    if (layout_ == Layout::vates_a) {
        ByteArray<wire_format::report_a_size> argument{};
        wire::put_le16<0>(wire::span(argument), domain);
        wire::put_bytes<2>(wire::span(argument), mnonce);
        ask(Operation::attestation_report, argument);
        return report_with(wire::part<18, AttestationReport::wire_size>(wire::view(argument)), mnonce);
    }
    ByteArray<wire_format::report_b_size> argument{};
    wire::put_le16<0>(wire::span(argument), domain);
    wire::put_bytes<2>(wire::span(argument), mnonce);
    wire::put_le32<20>(wire::span(argument), AttestationReport::wire_size);
    ask(Operation::attestation_report, argument);
    const std::uint32_t length = wire::le32<20>(wire::view(argument));
    if (length != AttestationReport::wire_size)
        throw Error{Fault::malformed, fmt::format("coco attestation report: 14h length is {}, want {}", length, AttestationReport::wire_size)};
    return report_with(wire::part<24, AttestationReport::wire_size>(wire::view(argument)), mnonce);
}

void VatesCoco::set_secrets_area(std::uint16_t domain, Gpa gpa, std::uint64_t length_bytes) {
    auto argument = range_argument(domain, raw(gpa), length_bytes);
    ask(Operation::set_secrets_area, argument);
}

void VatesCoco::update_secret(std::uint16_t domain, Gpa gpa, const ByteArray<0x34>& header, ByteView data) {
    if (data.empty() || raw(gpa) / page_bytes != (raw(gpa) + data.size() - 1) / page_bytes || data.size() > page_bytes)
        throw Error{Fault::usage, fmt::format("secret of {} bytes at {:#x}: want 1 to 4096 bytes inside one page", data.size(), raw(gpa))};
    Bytes packet{data.begin(), data.end()};
    ByteArray<wire_format::secrets_size> argument{};
    wire::put_le16<0>(wire::span(argument), domain);
    wire::put_bytes<8>(wire::span(argument), header);
    wire::put_le64<72>(wire::span(argument), packet.size());
    wire::put_le64<80>(wire::span(argument), raw(gpa));
    const Handle handle{.address_at = 64, .bytes = packet};
    ask(Operation::update_secrets, argument, std::span{&handle, 1});
}

CocoCertificates VatesCoco::certificates() {
    ByteArray<wire_format::certificates_size> argument{};
    ask(Operation::platform_certificates, argument);
    return layout_ == Layout::vates_a ? certificates_at<32, 8368, 0>(wire::view(argument)) : certificates_at<160, 0, 128>(wire::view(argument));
}

SevCertificate VatesCoco::signing_request() {
    ByteArray<certificate_bytes> argument{};
    ask(Operation::signing_request, argument);
    return parse_sev_certificate(argument, "PEK signing request");
}

void VatesCoco::regenerate(Key key) {
    auto argument = wire::le32_bytes(static_cast<std::uint32_t>(key));
    ask(Operation::regenerate_certificate, argument);
}

void VatesCoco::import_certificates(const SevCertificate& pek, const SevCertificate& oca) {
    ByteArray<wire_format::import_size> argument{};
    wire::put_bytes<0>(wire::span(argument), pek.serialize());
    wire::put_bytes<certificate_bytes>(wire::span(argument), oca.serialize());
    ask(Operation::import_certificate, argument);
}

} // namespace sev::psp::xen
