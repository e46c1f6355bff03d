// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/image.hpp"

#include <algorithm>
#include <array>
#include <future>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/crypto.hpp"
#include "base/error.hpp"

namespace sev::measure {
namespace {

constexpr std::string_view vates_labels[] = {"kernel", "ramdisk", "start_info", "acpi_rsdp", "acpi_info", "acpi_tables"};

/// The measured ranges in an order.
std::vector<const XenRange*> in_order(const XenImage& image, XenOrder order) {
    std::vector<const XenRange*> out;
    if (order == XenOrder::ascending_gfn) {
        for (const XenRange& range : image.ranges) out.push_back(&range);
        return out;
    }
    if (image.type != XenGuestType::pvh) throw Error{Fault::usage, "page order vates-2025: is for PVH guests alone, want ascending-gfn"};
    if (image.ramdisk_by_page_number && image.find("ramdisk"))
        throw Error{
            Fault::usage,
            "page order vates-2025: with a ramdisk and a kernel that has the note MOD_START_PFN, that code hashes other pages than the ramdisk's",
            "use page order ascending-gfn, or start the kernel without a ramdisk"};
    for (const std::string_view label : vates_labels)
        if (const XenRange* range = image.find(label)) out.push_back(range);
    require(out.size() == image.ranges.size(), "every range of a PVH image has its place in vates-2025");
    return out;
}

Digest digest_of(const XenRange& range) {
    Sha256 out;
    range.visit([&](ByteView bytes) { out.update(bytes); });
    return out.finish();
}

/// A running SHA-256 whose value so far can be had.
class Running {
public:
    Running() : context_{EVP_MD_CTX_new()} { check(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1); }
    void update(ByteView bytes) { check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1); }
    Running fork() const {
        Running out;
        check(EVP_MD_CTX_copy_ex(out.context_.get(), context_.get()) == 1);
        return out;
    }
    Digest so_far() const {
        const Running copy = fork();
        Digest out{};
        check(EVP_DigestFinal_ex(copy.context_.get(), out.data(), nullptr) == 1);
        return out;
    }

private:
    static void check(bool success) {
        if (!success) throw Error{Fault::system, "OpenSSL: SHA-256 failed"};
    }
    Openssl<EVP_MD_CTX> context_;
};

} // namespace

std::string_view name(XenOrder order) { return order == XenOrder::ascending_gfn ? "ascending-gfn" : "vates-2025"; }

std::optional<XenOrder> xen_order_named(std::string_view text) {
    for (const XenOrder order : {XenOrder::ascending_gfn, XenOrder::vates_2025})
        if (name(order) == text) return order;
    return std::nullopt;
}

ByteView XenRange::page(std::uint64_t index, XenPage& scratch) const {
    require(index < pages, "a page of the range");
    const std::uint64_t start = index * xen_page_bytes, end = start + xen_page_bytes;
    // the first piece that ends beyond the page's start
    auto piece = std::ranges::partition_point(pieces, [&](const XenPiece& p) { return p.offset_bytes + p.bytes.size() <= start; });
    if (piece != pieces.end() && piece->offset_bytes <= start && piece->offset_bytes + piece->bytes.size() >= end)
        return piece->bytes.subspan(static_cast<std::size_t>(start - piece->offset_bytes), xen_page_bytes);
    scratch.fill(0);
    for (; piece != pieces.end() && piece->offset_bytes < end; ++piece) {
        const std::uint64_t from = std::max(start, piece->offset_bytes), to = std::min<std::uint64_t>(end, piece->offset_bytes + piece->bytes.size());
        std::ranges::copy(piece->bytes.subspan(static_cast<std::size_t>(from - piece->offset_bytes), static_cast<std::size_t>(to - from)),
                          scratch.begin() + static_cast<std::ptrdiff_t>(from - start));
    }
    return scratch;
}

const XenRange* XenImage::find(std::string_view label) const {
    const auto found = std::ranges::find(ranges, label, &XenRange::label);
    return found == ranges.end() ? nullptr : &*found;
}

std::optional<XenImage> XenImage::later_build() const {
    if (type != XenGuestType::pvh) return std::nullopt;
    require(later_tables != nullptr, "a PVH image has the ACPI tables of a later build");
    XenImage out = *this;
    out.build = XenBuild::later;
    const auto tables = std::ranges::find(out.ranges, "acpi_tables", &XenRange::label);
    require(tables != out.ranges.end(), "a PVH image has ACPI tables");
    tables->pieces = {{.offset_bytes = 0, .bytes = *later_tables}};
    return out;
}

Digest digest(const XenImage& image, XenOrder order) {
    Sha256 whole;
    for (const XenRange* range : in_order(image, order)) range->visit([&](ByteView bytes) { whole.update(bytes); });
    return whole.finish();
}

XenMeasurement measure(const XenImage& image, XenOrder order) {
    const auto ranges = in_order(image, order);
    require(!ranges.empty(), "an image has ranges");
    // The whole begins with the first range, so that one's own digest comes by the way; the others are hashed meanwhile on a thread of their own.
    auto others = std::async(std::launch::async, [&ranges] {
        std::vector<Digest> out;
        for (std::size_t i = 1; i < ranges.size(); ++i) out.push_back(digest_of(*ranges[i]));
        return out;
    });
    // A later build of the process has other ACPI tables, which come near the end: up to there both are one.
    Running whole;
    std::optional<Running> later;
    std::vector<Digest> own;
    for (const XenRange* range : ranges) {
        const bool differs = image.build == XenBuild::first && image.later_tables && range->label == "acpi_tables";
        if (differs) later = whole.fork();
        range->visit([&](ByteView bytes) {
            whole.update(bytes);
            if (later && !differs) later->update(bytes);
        });
        if (differs) later->update(*image.later_tables);
        if (own.empty()) own.push_back(whole.so_far());
    }
    const std::vector<Digest> rest = others.get();
    own.insert(own.end(), rest.begin(), rest.end());
    XenMeasurement out{.digest = whole.so_far(), .regions = {}, .later_digest = later ? std::optional{later->so_far()} : std::nullopt};
    for (std::size_t i = 0; i < ranges.size(); ++i)
        out.regions.push_back({.label = ranges[i]->label,
                               .gpa = ranges[i]->gpa(),
                               .length_bytes = ranges[i]->length_bytes(),
                               .sha256 = own[i],
                               .source = ranges[i]->source});
    return out;
}

} // namespace sev::measure
