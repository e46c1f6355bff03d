// SPDX-License-Identifier: Apache-2.0
#include "launch/image_guest.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <unistd.h>

#include "base/error.hpp"
#include "ovmf-measure/launch_digest.hpp"

namespace sev::launch {
namespace {
constexpr std::uint64_t page_size = 4096;
constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

/// Straight into the guest's memory: a mapping in between would be faulted in, and copied, page by page.
void read_whole(const OpenFile& file, std::span<std::uint8_t> out, const std::string& what) {
    std::uint64_t at = 0;
    while (at < file.size_bytes) {
        const ssize_t got = ::read(file.fd.get(), out.data() + at, file.size_bytes - at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw Error{Fault::system, fmt::format("{}: {}", what, std::strerror(errno))};
        if (got == 0) throw Error{Fault::system, fmt::format("{}: became shorter while it was read: {} of {} bytes", what, at, file.size_bytes)};
        at += static_cast<std::uint64_t>(got);
    }
}
} // namespace

/// Zeroed pages that hold [gpa, gpa + length_bytes); the first page may begin below gpa.
struct ImageGuest::Piece {
    Piece(psp::PageSource& source, psp::Gpa start, std::uint64_t length)
        : gpa{start}, length_bytes{length}, lead{psp::raw(start) % page_size}, pages{source.allocate(round_up(lead + length, page_size))} {}
    std::span<std::uint8_t> bytes() const { return pages->bytes().subspan(lead, length_bytes); }
    psp::SystemAddress at() const { return pages->at(); }
    bool contains(std::uint64_t start, std::uint64_t length) const {
        const std::uint64_t offset = start - psp::raw(gpa);
        return start >= psp::raw(gpa) && offset <= length_bytes && length <= length_bytes - offset;
    }
    bool overlaps(std::uint64_t start, std::uint64_t length) const { return start < psp::raw(gpa) + length_bytes && psp::raw(gpa) < start + length; }

    psp::Gpa gpa;
    std::uint64_t length_bytes, lead;
    std::unique_ptr<psp::Pages> pages;
};

ImageGuest::ImageGuest(const ImageLayout& layout, psp::PageSource& pages) : layout_{layout} {
    for (const ImagePart& part : layout_.parts) {
        const OpenFile file = open_regular(part.file);
        const std::string what = fmt::format("part {} ({})", part.label, printable(part.file.string(), 4096));
        if (file.size_bytes == 0) throw Error{Fault::malformed, what + ": empty, want at least 1 byte"};
        const std::uint64_t length = part.length_bytes.value_or(round_up(file.size_bytes, 16));
        if (length > ImageLayout::part_limit_bytes || file.size_bytes > length)
            throw Error{Fault::malformed,
                        fmt::format("{}: {} bytes, more than {}", what, file.size_bytes, std::min(length, ImageLayout::part_limit_bytes))};
        for (const auto& other : pieces_)
            if (other->overlaps(psp::raw(part.gpa), length))
                throw Error{Fault::malformed, fmt::format("{}: overlaps the part at {:#x}", what, psp::raw(other->gpa))};
        pieces_.push_back(std::make_unique<Piece>(pages, part.gpa, length));
        read_whole(file, pieces_.back()->bytes(), what);
        parts_.push_back({part.gpa, length});
    }
    const std::size_t part_count = pieces_.size();
    for (const ImageSlot& slot : layout_.slots) {
        const std::uint64_t start = psp::raw(slot.gpa);
        if (std::ranges::any_of(pieces_, [&](const auto& piece) { return piece->contains(start, slot.length_bytes); })) continue;
        if (std::ranges::any_of(pieces_, [&](const auto& piece) { return piece->overlaps(start, slot.length_bytes); }))
            throw Error{Fault::malformed, fmt::format("slot {}: lies half inside a part or another slot, want inside one or apart", slot.name)};
        pieces_.push_back(std::make_unique<Piece>(pages, slot.gpa, slot.length_bytes));
    }
    if (layout_.vcpus > 0) {
        const auto vmsas = measure::qemu_vmsas(measure::vmsa_profile(layout_.vmsa_profile), layout_.vcpus, layout_.cpu,
                                               pieces_[part_count - 1]->bytes(), layout_.sev_features);
        vmsa_pages_ = std::make_unique<Piece>(pages, psp::Gpa{}, vmsas.size() * page_size);
        for (std::size_t i = 0; i < vmsas.size(); ++i) {
            std::ranges::copy(vmsas[i], vmsa_pages_->bytes().subspan(i * page_size).begin());
            vmsas_.push_back(vmsa_pages_->at() + i * page_size);
        }
    }
}

ImageGuest::~ImageGuest() = default;

const ImageGuest::Piece& ImageGuest::piece_with(psp::Gpa start, std::uint64_t length_bytes) const {
    const auto found = std::ranges::find_if(pieces_, [&](const auto& piece) { return piece->contains(psp::raw(start), length_bytes); });
    if (found == pieces_.end())
        throw Error{Fault::usage, fmt::format("guest memory [{:#x}, {:#x} + {:#x}): not in any one part of the image", psp::raw(start),
                                              psp::raw(start), length_bytes)};
    return **found;
}

std::vector<Run> ImageGuest::locate(psp::Gpa start, std::uint64_t length_bytes) const {
    const Piece& piece = piece_with(start, length_bytes);
    return {{.at = piece.at() + piece.lead + (psp::raw(start) - psp::raw(piece.gpa)), .length_bytes = length_bytes}};
}

void ImageGuest::read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const {
    const Piece& piece = piece_with(start, out.size());
    std::ranges::copy(piece.bytes().subspan(psp::raw(start) - psp::raw(piece.gpa), out.size()), out.begin());
}

std::optional<GuestSlot> ImageGuest::slot(std::string_view name) const {
    const auto found = std::ranges::find(layout_.slots, name, &ImageSlot::name);
    if (found == layout_.slots.end()) return std::nullopt;
    const Piece& piece = piece_with(found->gpa, found->length_bytes);
    // a PSP that only measures leaves the secret in the clear
    piece.pages->lock(piece.lead + psp::raw(found->gpa) - psp::raw(piece.gpa), found->length_bytes);
    return GuestSlot{.name = found->name, .gpa = found->gpa, .length_bytes = found->length_bytes};
}

void ImageGuest::recheck() { require(!running_, "an image guest is checked before it runs"); }

void ImageGuest::run() {
    require(!running_, "an image guest is let run once");
    running_ = true;
}

attest::LaunchDescriptor ImageGuest::descriptor() const {
    attest::LaunchDescriptor out;
    out.kind = attest::GuestKind::image;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        const ByteView bytes = pieces_[i]->bytes();
        out.regions.push_back({.label = layout_.parts[i].label,
                               .gpa = parts_[i].gpa,
                               .length_bytes = bytes.size(),
                               .sha256 = sha256(bytes),
                               .source = layout_.parts[i].file.filename().string()});
    }
    for (std::size_t i = 0; i < vmsas_.size(); ++i)
        out.regions.push_back({.label = fmt::format("vmsa {}", i),
                               .gpa = std::nullopt,
                               .length_bytes = page_size,
                               .sha256 = sha256(vmsa_pages_->bytes().subspan(i * page_size, page_size)),
                               .source = layout_.vmsa_profile});
    if (layout_.vcpus > 0) {
        out.vcpus = layout_.vcpus;
        out.vmsa_profile = {{.name = layout_.vmsa_profile, .version = measure::vmsa_profile(layout_.vmsa_profile).version}};
    }
    return out;
}

std::uint64_t ImageGuest::measured_bytes() const noexcept {
    std::uint64_t total = vmsas_.size() * page_size;
    for (const GuestPart& part : parts_) total += part.length_bytes;
    return total;
}

} // namespace sev::launch
