// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/kernel_hashes.hpp"

#include "base/crypto.hpp"
#include "base/error.hpp"
#include "ovmf-measure/firmware_table.hpp"

namespace sev::measure {

namespace {

constexpr std::size_t table_bytes = 0xA8; // without the padding
constexpr std::size_t entry_bytes = 0x32;

// Source: QEMU target/i386/sev.c.
const Guid table_guid{{0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21}};
const Guid cmdline_guid{{0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a}};
const Guid initrd_guid{{0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d}};
const Guid kernel_guid{{0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b}};

template <std::size_t At>
void check_header(wire::View<KernelHashes::wire_size> v, const Guid& guid, std::size_t length, std::string_view what) {
    const Guid found{wire::bytes<At, 16>(v)};
    if (found != guid) {
        throw Error{Fault::malformed, fmt::format("kernel hashes table: {:02x}h GUID is {}, want {} ({})", At, found.text(), guid.text(), what)};
    }
    if (wire::le16<At + 0x10>(v) != length) {
        throw Error{Fault::malformed, fmt::format("kernel hashes table: {:02x}h length of {} is {}, want {}", At + 0x10, what,
                                                  wire::le16<At + 0x10>(v), length)};
    }
}

template <std::size_t At>
Digest parse_entry(wire::View<KernelHashes::wire_size> v, const Guid& guid, std::string_view what) {
    check_header<At>(v, guid, entry_bytes, what);
    return wire::bytes<At + 0x12, 32>(v);
}

template <std::size_t At>
void put_entry(wire::Span<KernelHashes::wire_size> v, const Guid& guid, const Digest& digest) {
    wire::put_bytes<At>(v, guid.bytes);
    wire::put_le16<At + 0x10>(v, entry_bytes);
    wire::put_bytes<At + 0x12>(v, digest);
}

} // namespace

KernelHashes KernelHashes::of(const Digest& kernel, const std::optional<Digest>& initrd, std::string_view cmdline) {
    if (const std::size_t nul = cmdline.find('\0'); nul != std::string_view::npos) {
        throw Error{Fault::usage, fmt::format("kernel command line: NUL at byte {} of {}, want none", nul, cmdline.size())};
    }
    constexpr ByteArray<1> nul{};
    return {.kernel = kernel,
            .initrd = initrd ? *initrd : sha256({}),
            .cmdline = Sha256{}.update(as_bytes(cmdline)).update(nul).finish()};
}

ByteArray<KernelHashes::wire_size> KernelHashes::serialize() const {
    ByteArray<wire_size> out{};
    const auto v = wire::span(out);
    wire::put_bytes<0x00>(v, table_guid.bytes);
    wire::put_le16<0x10>(v, table_bytes);
    put_entry<0x12>(v, cmdline_guid, cmdline);
    put_entry<0x44>(v, initrd_guid, initrd);
    put_entry<0x76>(v, kernel_guid, kernel);
    return out;
}

KernelHashes KernelHashes::parse(wire::View<wire_size> v) {
    check_header<0x00>(v, table_guid, table_bytes, "table");
    KernelHashes hashes;
    hashes.cmdline = parse_entry<0x12>(v, cmdline_guid, "cmdline");
    hashes.initrd = parse_entry<0x44>(v, initrd_guid, "initrd");
    hashes.kernel = parse_entry<0x76>(v, kernel_guid, "kernel");
    if (!wire::all_zero<0xA8, 8>(v)) throw Error{Fault::malformed, "kernel hashes table: a8h padding is not zero"};
    return hashes;
}

} // namespace sev::measure
