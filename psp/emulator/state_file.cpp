// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/state_file.hpp"

#include <fmt/format.h>

namespace sev::psp::emulator {
namespace {

constexpr std::string_view magic = "xen-sev-emulator";
constexpr std::uint32_t version = 1;
constexpr std::size_t name_bytes = 32, trailer_bytes = 32;
constexpr std::size_t header_bytes = 16 + 4 + 4;

[[noreturn]] void refuse(std::string_view what, std::string_view problem) {
    throw Error{sev::Fault::malformed, fmt::format("{}: {}", what, problem),
                "restore the state directory from a copy, or make a new emulated PSP elsewhere"};
}

/// Judges magic, version, length and trailer, and returns what lies between.
ByteView checked_body(ByteView bytes, std::string_view what) {
    if (bytes.size() < header_bytes + trailer_bytes)
        refuse(what, fmt::format("{} bytes, want at least {}: torn, or not the state of an emulated PSP", bytes.size(),
                                 header_bytes + trailer_bytes));
    Cursor header{bytes.first(header_bytes), std::string{what}};
    if (as_text(header.take(magic.size(), "magic")) != magic)
        refuse(what, fmt::format("00h magic is not \"{}\": not the state of an emulated PSP", magic));
    if (const std::uint32_t found = header.le32("VERSION"); found != version)
        refuse(what, fmt::format("10h VERSION is {}, want {}{}", found, version, found > version ? ": written by a newer program" : ""));
    if (const std::uint32_t length = header.le32("LENGTH"); length != bytes.size())
        refuse(what, fmt::format("14h LENGTH is {}, but there are {} bytes: torn", length, bytes.size()));
    const ByteView covered = bytes.first(bytes.size() - trailer_bytes);
    const Digest digest = sha256(covered);
    if (!std::ranges::equal(digest, bytes.last(trailer_bytes)))
        refuse(what, fmt::format("{:02x}h SHA-256 is not that of the bytes before it: torn or damaged", covered.size()));
    return covered.subspan(header_bytes);
}

const Personality& personality_of(Cursor& body) {
    const ByteView field = body.take(name_bytes, "personality");
    const auto end = std::ranges::find(field, std::uint8_t{0});
    const std::string_view name = as_text({field.begin(), end});
    if (end == field.end() || !std::all_of(end, field.end(), [](std::uint8_t b) { return b == 0; }))
        body.refuse("personality is not a zero-padded name");
    const Personality* found = find_personality(name);
    if (!found) body.refuse(fmt::format("personality is \"{}\", which this program does not know", printable(name)));
    return *found;
}

CaCertificate read_ca(Cursor& body, std::string_view field) {
    const std::uint32_t length = body.le32(field);
    CaCertificate certificate = parse_ca_certificate(body.take(length, field), field);
    if (!certificate.signature) body.refuse(fmt::format("{} has no signature", field));
    return certificate;
}

} // namespace

ChipState parse_state(ByteView bytes, std::string_view what) {
    Cursor body{checked_body(bytes, what), fmt::format("{}: after the header", what)};
    const Personality& personality = personality_of(body);
    const std::uint32_t sockets = body.le32("number of sockets");
    if (sockets != personality.sockets)
        body.refuse(fmt::format("number of sockets is {}, want {} for {}", sockets, personality.sockets, personality.name));
    std::vector<ChipId> ids(sockets);
    for (ChipId& id : ids) id = body.array<64>("chip id");
    ChipSecret secret{body.take(ChipSecret::size_bytes, "chip secret").first<ChipSecret::size_bytes>()};
    return within(what, [&] {
        CaCertificate ark = read_ca(body, "ARK"), ask = read_ca(body, "ASK");
        SevCertificate cek = parse_sev_certificate(body.take(SevCertificate::wire_size, "CEK certificate"), "CEK certificate");
        ChipState state{.chip = {&personality, std::move(ids), std::move(secret), std::move(ark), std::move(ask), std::move(cek)}, .flash = nullptr};
        const std::uint32_t present = body.le32("flash");
        if (present > 1) body.refuse(fmt::format("flash is {}, want 0 (empty) or 1", present));
        if (present == 1) state.flash = std::make_shared<const PlatformKeys>(PlatformKeys::parse(body));
        body.done();
        return state;
    });
}

SecretBytes serialize_state(const Chip& chip, const PlatformKeys* flash) {
    const Bytes ark = chip.ark.serialize(), ask = chip.ask.serialize();
    const std::size_t size = header_bytes + name_bytes + 4 + 64 * chip.ids.size() + ChipSecret::size_bytes + 4 + ark.size() + 4 + ask.size() +
                             SevCertificate::wire_size + 4 + (flash ? PlatformKeys::wire_size : 0) + trailer_bytes;
    SecretBytes out{size};
    Writer writer{out.writable()};
    writer.bytes(as_bytes(magic)).le32(version).le32(static_cast<std::uint32_t>(size));
    const std::string_view name = chip.personality->name;
    require(name.size() < name_bytes, "a personality's name fits its field");
    writer.bytes(as_bytes(name)).bytes(Bytes(name_bytes - name.size()));
    writer.le32(static_cast<std::uint32_t>(chip.ids.size()));
    for (const ChipId& id : chip.ids) writer.bytes(id);
    writer.bytes(chip.secret.reveal());
    writer.le32(static_cast<std::uint32_t>(ark.size())).bytes(ark).le32(static_cast<std::uint32_t>(ask.size())).bytes(ask);
    writer.bytes(chip.cek.serialize()).le32(flash ? 1 : 0);
    if (flash) flash->serialize(writer);
    writer.bytes(sha256(out.reveal().first(writer.offset())));
    writer.done();
    return out;
}

} // namespace sev::psp::emulator
