// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/image_source.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::daemon {
namespace {

launch::ImageLayout layout_of(const json::Value& guest) {
    json::Object object{guest, "guest"};
    static_cast<void>(object.string("kind"));
    const std::string layout = object.string("layout", 4096);
    object.done();
    if (!layout.starts_with('/')) object.refuse("layout", fmt::format("is \"{}\", want an absolute path", printable(layout)));
    return launch::ImageLayout::load(layout);
}

/// What the layout's files take in memory, before any of it is taken.
std::uint64_t size_of(const launch::ImageLayout& layout) {
    std::uint64_t total = std::uint64_t{layout.vcpus} * 4096;
    for (const launch::ImagePart& part : layout.parts) total += part.length_bytes ? *part.length_bytes : open_regular(part.file).size_bytes;
    for (const launch::ImageSlot& slot : layout.slots) total += slot.length_bytes;
    return total;
}

/// A share of the memory that image guests may take.
class Share {
public:
    Share(std::shared_ptr<std::atomic<std::uint64_t>> used, std::uint64_t size_bytes, std::uint64_t limit_bytes)
        : used_{std::move(used)}, size_bytes_{size_bytes} {
        if (used_->fetch_add(size_bytes_) + size_bytes_ <= limit_bytes) return;
        used_->fetch_sub(size_bytes_);
        throw Error{Fault::system, fmt::format("image guests may take {} bytes together, and this one would take {}", limit_bytes, size_bytes_),
                    "raise limits.guest_memory_bytes, or end another guest"};
    }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share() { used_->fetch_sub(size_bytes_); }

private:
    std::shared_ptr<std::atomic<std::uint64_t>> used_;
    std::uint64_t size_bytes_;
};

/// An image guest that gives its share back when it is gone.
class SharingGuest final : public launch::Guest {
public:
    SharingGuest(std::unique_ptr<Share> share, const launch::ImageLayout& layout, psp::PageSource& pages)
        : share_{std::move(share)}, guest_{layout, pages} {}
    std::vector<launch::Run> locate(psp::Gpa start, std::uint64_t length_bytes) const override { return guest_.locate(start, length_bytes); }
    void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const override { guest_.read_as_host(start, out); }
    const std::vector<launch::GuestPart>& parts() const override { return guest_.parts(); }
    const std::vector<psp::SystemAddress>& vmsas() const override { return guest_.vmsas(); }
    std::optional<launch::GuestSlot> slot(std::string_view name) const override { return guest_.slot(name); }
    attest::LaunchDescriptor descriptor() const override { return guest_.descriptor(); }
    void recheck() override { guest_.recheck(); }
    void run() override { guest_.run(); }
    void destroy() override { guest_.destroy(); }
    bool alive() override { return guest_.alive(); }

private:
    std::unique_ptr<Share> share_; // goes after the memory
    launch::ImageGuest guest_;
};

} // namespace

launch::GuestSource::Plan ImageSource::plan(const json::Value& guest) {
    return {.es = layout_of(guest).vcpus > 0, .identity = json::Value::object()};
}

std::unique_ptr<launch::Guest> ImageSource::open(const json::Value& guest, const json::Value& /*identity*/) {
    const launch::ImageLayout layout = layout_of(guest);
    return std::make_unique<SharingGuest>(std::make_unique<Share>(used_bytes_, size_of(layout), limit_bytes_), layout, pages_);
}

std::unique_ptr<launch::Guest> ImageSource::adopt(const json::Value& /*identity*/) { return nullptr; }

std::string ImageSource::destroy_leftover(const json::Value& /*identity*/) { return "an image guest ends with sevd"; }

} // namespace sev::daemon
