// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/unpack.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include <fmt/format.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.hpp"
#include "base/wire.hpp"

namespace sev::measure {
namespace {

constexpr std::size_t setup_header_bytes = 0x250; // up to and including payload_length

std::uint32_t le32_at(ByteView bytes, std::size_t at) { return wire::le32<0>(wire::View<4>{bytes.subspan(at, 4)}); }

/// Memory that is not cleared: a decompressor fills it. Text, because that is what liblz4 writes.
class Output {
public:
    explicit Output(std::size_t size_bytes)
        : data_{std::make_unique_for_overwrite<char[]>(std::max<std::size_t>(size_bytes, 1))}, size_bytes_{size_bytes} {}
    char* text(std::size_t at = 0) noexcept { return data_.get() + at; }
    void* data() noexcept { return data_.get(); }
    std::size_t size() const noexcept { return size_bytes_; }
    Unpacked finish() && {
        const std::shared_ptr<const char[]> owner{std::move(data_)};
        return {.bytes = as_bytes({owner.get(), size_bytes_}), .owner = owner};
    }

private:
    std::unique_ptr<char[]> data_;
    std::size_t size_bytes_;
};

/// Zero bytes; pages that nobody writes cost nothing.
class ZeroedOutput {
public:
    explicit ZeroedOutput(std::size_t size_bytes)
        : data_{static_cast<std::uint8_t*>(std::calloc(std::max<std::size_t>(size_bytes, 1), 1)), &std::free}, size_bytes_{size_bytes} {
        if (!data_) throw Error{Fault::system, fmt::format("no memory for {} bytes", size_bytes)};
    }
    std::uint8_t* data() noexcept { return data_.get(); }
    Unpacked finish() && { return {.bytes = {data_.get(), size_bytes_}, .owner = std::move(data_)}; }

private:
    std::shared_ptr<std::uint8_t> data_;
    std::size_t size_bytes_;
};

/// One compressed payload of a bzImage: its last four bytes say how long it is unpacked.
struct Payload {
    ByteView bytes;
    std::string what; // "vmlinuz: payload at 4000h"
    std::size_t limit_bytes;

    [[noreturn]] void refuse(std::string_view problem) const { throw Error{Fault::malformed, fmt::format("{}: {}", what, problem)}; }
    ByteView packed() const { return bytes.first(bytes.size() - 4); }
    std::size_t unpacked_bytes() const {
        if (bytes.size() <= 9) refuse(fmt::format("{} bytes are too few", bytes.size()));
        const std::size_t size = le32_at(bytes, bytes.size() - 4);
        if (size > limit_bytes) refuse(fmt::format("its last four bytes say that it unpacks to {} bytes, want at most {}", size, limit_bytes));
        return size;
    }
    void expect(std::size_t got, std::size_t want) const {
        if (got != want) refuse(fmt::format("unpacks to {} bytes, and its last four bytes say {}", got, want));
    }
};

Unpacked unpack_gzip(const Payload& payload) {
    const auto size = gunzip_size(payload.bytes, payload.limit_bytes);
    if (!size) payload.refuse("a gzip payload that Xen would not unpack: too short, or said to be too long");
    auto out = gunzip_first_member(payload.bytes, *size);
    if (!out) payload.refuse(fmt::format("damaged gzip data, or more than the {} bytes that its last four bytes say", *size - 16));
    return std::move(*out);
}

/// xz and lzma, in one call as the builder does it: `decoder` is set up, and is ended here.
Unpacked unpack_lzma(const Payload& payload, lzma_stream& decoder, lzma_ret set_up, std::string_view name) {
    const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> end{&decoder, &lzma_end};
    if (set_up != LZMA_OK) throw Error{Fault::system, fmt::format("liblzma: no {} decoder, status {}", name, static_cast<int>(set_up))};
    const std::size_t size = payload.unpacked_bytes();
    ZeroedOutput out{size};
    decoder.next_in = payload.packed().data();
    decoder.avail_in = payload.packed().size();
    decoder.next_out = out.data();
    decoder.avail_out = size;
    const lzma_ret status = lzma_code(&decoder, LZMA_RUN);
    if (status == LZMA_MEMLIMIT_ERROR) payload.refuse(fmt::format("{} data needs more memory than this release of Xen gives it", name));
    if (status != LZMA_STREAM_END && status != LZMA_OK)
        payload.refuse(fmt::format("damaged {} data, liblzma status {}", name, static_cast<int>(status)));
    payload.expect(static_cast<std::size_t>(decoder.total_out), size);
    return std::move(out).finish();
}

Unpacked unpack_xz(const Payload& payload, unsigned memory_mib) {
    lzma_stream decoder = LZMA_STREAM_INIT;
    const lzma_ret set_up = lzma_stream_decoder(&decoder, std::uint64_t{memory_mib} << 20, 0);
    return unpack_lzma(payload, decoder, set_up, "xz");
}

Unpacked unpack_lzma_alone(const Payload& payload, unsigned memory_mib) {
    lzma_stream decoder = LZMA_STREAM_INIT;
    const lzma_ret set_up = lzma_alone_decoder(&decoder, std::uint64_t{memory_mib} << 20);
    return unpack_lzma(payload, decoder, set_up, "lzma");
}

Unpacked unpack_zstd(const Payload& payload) {
    Output out{payload.unpacked_bytes()};
    const ByteView packed = payload.packed();
    const std::size_t got = ZSTD_decompress(out.data(), out.size(), packed.data(), packed.size());
    if (ZSTD_isError(got) != 0) payload.refuse(fmt::format("damaged zstd data: {}", ZSTD_getErrorName(got)));
    payload.expect(got, out.size());
    return std::move(out).finish();
}

/// Linux's legacy lz4 framing: the magic, then chunks of a 32-bit length and one lz4 block each; the magic may stand between chunks again.
Unpacked unpack_lz4(const Payload& payload) {
    constexpr std::uint32_t magic = 0x184C2102;
    Output out{payload.unpacked_bytes()};
    const ByteView packed = payload.packed();
    if (le32_at(packed, 0) != magic) payload.refuse(fmt::format("begins with {:08x}, want the lz4 legacy magic {:08x}", le32_at(packed, 0), magic));
    std::size_t at = 4, written = 0;
    while (at < packed.size()) {
        if (packed.size() - at < 4) payload.refuse(fmt::format("{:x}h: {} bytes are left, want the length of an lz4 chunk", at, packed.size() - at));
        const std::uint32_t length = le32_at(packed, at);
        at += 4;
        if (length == magic) {
            if (at == packed.size()) payload.refuse("ends with an lz4 magic, want a chunk");
            continue;
        }
        if (length > packed.size() - at) payload.refuse(fmt::format("{:x}h: lz4 chunk of {} bytes, {} are left", at, length, packed.size() - at));
        const ByteView chunk = packed.subspan(at, length);
        const int got =
            LZ4_decompress_safe(as_text(chunk).data(), out.text(written), static_cast<int>(length), static_cast<int>(out.size() - written));
        if (got < 0) payload.refuse(fmt::format("{:x}h: damaged lz4 chunk, or more than the {} bytes that the last four bytes say", at, out.size()));
        written += static_cast<std::size_t>(got);
        at += length;
    }
    payload.expect(written, out.size());
    return std::move(out).finish();
}

Unpacked unpack_payload(const Payload& payload, unsigned lzma_memory_mib) {
    const auto begins = [&](std::initializer_list<std::uint8_t> magic) {
        return payload.bytes.size() >= magic.size() && std::ranges::equal(magic, payload.bytes.first(magic.size()));
    };
    const auto unsupported = [&](std::string_view name) -> Unpacked {
        throw Error{Fault::usage, fmt::format("{}: {} compression, which xen-sev does not unpack", payload.what, name),
                    "give the kernel with gzip, xz, lzma, lz4 or zstd compression, or its ELF image"};
    };
    if (begins({0x1F, 0x8B})) return unpack_gzip(payload);
    if (begins({'B', 'Z', 'h'})) return unsupported("bzip2");
    if (begins({0xFD, '7', 'z', 'X', 'Z', 0x00})) return unpack_xz(payload, lzma_memory_mib);
    if (begins({0x28, 0xB5, 0x2F, 0xFD})) return unpack_zstd(payload);
    if (begins({0x5D, 0x00})) return unpack_lzma_alone(payload, lzma_memory_mib);
    if (begins({0x89, 'L', 'Z', 'O'})) return unsupported("LZO");
    if (begins({0x02, 0x21})) return unpack_lz4(payload);
    payload.refuse(
        fmt::format("begins with {}, want gzip, xz, lzma, lz4 or zstd", hex(payload.bytes.first(std::min<std::size_t>(6, payload.bytes.size())))));
}

bool is_elf(ByteView file) { return file.size() >= 4 && file[0] == 0x7F && file[1] == 'E' && file[2] == 'L' && file[3] == 'F'; }
bool is_bzimage(ByteView file) { return file.size() >= setup_header_bytes && as_text(file.subspan(0x202, 4)) == "HdrS"; }

} // namespace

std::optional<std::size_t> gunzip_size(ByteView file, std::size_t limit_bytes) {
    if (file.size() < 6 || file[0] != 0x1F || file[1] != 0x8B) return std::nullopt;
    const std::size_t claimed = le32_at(file, file.size() - 4);
    if (claimed > limit_bytes) return std::nullopt;
    return claimed + 16;
}

std::optional<Unpacked> gunzip_first_member(ByteView file, std::size_t size_bytes) {
    require(file.size() <= xen_unpack_limit_bytes && size_bytes <= xen_unpack_limit_bytes + 16, "gunzip within the builder's limits");
    ZeroedOutput out{size_bytes};
    z_stream stream{};
    if (inflateInit2(&stream, MAX_WBITS + 32) != Z_OK) throw Error{Fault::system, "zlib: inflateInit2 failed"};
    const std::unique_ptr<z_stream, int (*)(z_stream*)> end{&stream, &inflateEnd};
    stream.next_in = const_cast<std::uint8_t*>(file.data()); // zlib only reads there
    stream.avail_in = static_cast<uInt>(file.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(size_bytes);
    if (inflate(&stream, Z_FINISH) != Z_STREAM_END) return std::nullopt;
    return std::move(out).finish();
}

Unpacked unpack_kernel(ByteView file, std::string_view what, unsigned lzma_memory_mib, std::size_t limit_bytes) {
    if (file.empty()) throw Error{Fault::malformed, fmt::format("{}: 0 bytes, want a kernel", what)};
    if (file.size() > limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, more than the {} that Xen reads", what, file.size(), limit_bytes)};
    Unpacked whole{.bytes = file, .owner = nullptr};
    if (const auto size = gunzip_size(file, limit_bytes)) {
        if (*size <= limit_bytes) { // else Xen takes the file as it is
            auto out = gunzip_first_member(file, *size);
            if (!out)
                throw Error{Fault::malformed,
                            fmt::format("{}: damaged gzip data, or more than the {} bytes that its last four bytes say", what, *size - 16)};
            whole = std::move(*out);
        }
    }
    if (is_elf(whole.bytes)) {
        if (is_bzimage(whole.bytes))
            throw Error{Fault::malformed, fmt::format("{}: 202h is HdrS in an ELF file: it could be taken for a bzImage", what)};
        return whole;
    }
    if (!is_bzimage(whole.bytes))
        throw Error{Fault::malformed, fmt::format("{}: neither an ELF file nor a Linux bzImage (no HdrS at 202h){}", what,
                                                  whole.bytes.size() < setup_header_bytes ? ", and too short" : "")};
    const std::uint16_t protocol = wire::le16<0>(wire::View<2>{whole.bytes.subspan(0x206, 2)});
    if (protocol < 0x0208) throw Error{Fault::malformed, fmt::format("{}: 206h boot protocol is {:04x}, want 0208 or later", what, protocol)};
    const std::uint64_t offset = (std::uint64_t{whole.bytes[0x1F1]} + 1) * 512 + le32_at(whole.bytes, 0x248), length = le32_at(whole.bytes, 0x24C);
    if (offset >= whole.bytes.size() || length > whole.bytes.size() - offset)
        throw Error{Fault::malformed,
                    fmt::format("{}: 248h payload of {} bytes at {:x}h is not inside the file's {} bytes", what, length, offset, whole.bytes.size())};
    return unpack_payload({.bytes = whole.bytes.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length)),
                           .what = fmt::format("{}: payload at {:x}h", what, offset),
                           .limit_bytes = limit_bytes},
                          lzma_memory_mib);
}

} // namespace sev::measure
