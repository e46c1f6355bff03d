// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/domain_guest.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <openssl/crypto.h>

#include "base/crypto.hpp"
#include "base/error.hpp"
#include "base/wire.hpp"

namespace sev::launch::xen {
namespace {

constexpr std::size_t differences_shown = 8;

std::string joined(const std::vector<std::string>& texts) {
    std::string out;
    for (std::size_t i = 0; i < std::min(texts.size(), differences_shown); ++i) out += (i == 0 ? "" : "; ") + texts[i];
    if (texts.size() > differences_shown) out += fmt::format("; and {} more", texts.size() - differences_shown);
    return out;
}

/// Whether what a PSP left in a slot can be read by a guest: a PSP that encrypts memory leaves ciphertext, which is of no use to a guest without
/// encryption.
bool plain(std::string_view slot, ByteView content) {
    if (slot == "initrd") return as_text(content.first(6)) == "070701";
    return wire::le32<0>(wire::View<4>{content.data(), 4}) == content.size() - 4;
}

} // namespace

DomainGuest::DomainGuest(Parts parts) : parts_{std::move(parts)} {
    try {
        look();
    } catch (...) {
        try {
            parts_.domain->destroy();
        } catch (const Error&) {
            // the keeper destroys it when this object lets go of it
        }
        throw;
    }
}

DomainGuest::~DomainGuest() { wipe_copies(); }

void DomainGuest::look() {
    state_ = parts_.domain->state();
    capture_ = std::make_unique<Capture>(*parts_.prepared, *parts_.domain, *parts_.memory, state_.domid);
    if (const auto found = capture_->differences(); !found.empty())
        throw Error{Fault::malformed, fmt::format("domain {} is not what its configuration says: {}", state_.domid, joined(found))};
    capture_->clear_unwritten();
    for (const CapturedRange& one : capture_->ranges()) {
        const measure::XenRange& range = parts_.prepared->image().ranges[one.range];
        auto pages = parts_.pages.allocate(range.length_bytes());
        std::memcpy(pages->bytes().data(), one.mapping.bytes().data(), one.mapping.bytes().size());
        guest_parts_.push_back({.gpa = psp::Gpa{range.gpa()}, .length_bytes = range.length_bytes()});
        copies_.push_back({.gpa = psp::Gpa{range.gpa()}, .pages = std::move(pages)});
    }
}

const DomainGuest::Copy& DomainGuest::copy_with(psp::Gpa start, std::uint64_t length_bytes) const {
    for (const Copy& copy : copies_) {
        const std::uint64_t offset = psp::raw(start) - psp::raw(copy.gpa), size = copy.pages->bytes().size();
        if (start >= copy.gpa && offset <= size && length_bytes <= size - offset) return copy;
    }
    throw Error{Fault::usage,
                fmt::format("guest memory [{:#x}, {:#x} + {:#x}): not in any one measured range", psp::raw(start), psp::raw(start), length_bytes)};
}

std::vector<Run> DomainGuest::locate(psp::Gpa start, std::uint64_t length_bytes) const {
    const Copy& copy = copy_with(start, length_bytes);
    return {{.at = copy.pages->at() + (psp::raw(start) - psp::raw(copy.gpa)), .length_bytes = length_bytes}};
}

void DomainGuest::read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const {
    const std::uint64_t first = psp::raw(start) / page_bytes, last = (psp::raw(start) + out.size() + page_bytes - 1) / page_bytes;
    const Mapping mapping = parts_.memory->map(state_.domid, first, last - first, MapAccess::read);
    std::memcpy(out.data(), mapping.bytes().data() + psp::raw(start) % page_bytes, out.size());
}

std::optional<GuestSlot> DomainGuest::slot(std::string_view name) const {
    const auto found = std::ranges::find(parts_.prepared->slots(), name, &GuestSlot::name);
    if (found == parts_.prepared->slots().end()) return std::nullopt;
    if (std::ranges::find(opened_, name) == opened_.end()) opened_.emplace_back(name);
    const Copy& copy = copy_with(found->gpa, found->length_bytes);
    copy.pages->lock(psp::raw(found->gpa) - psp::raw(copy.gpa), found->length_bytes);
    return *found;
}

attest::LaunchDescriptor DomainGuest::descriptor() const {
    attest::LaunchDescriptor out;
    out.kind = parts_.prepared->kind();
    // from the copies: they are what the PSP measures
    for (std::size_t i = 0; i < copies_.size(); ++i) {
        const measure::XenRange& range = parts_.prepared->image().ranges[i];
        out.regions.push_back({.label = range.label,
                               .gpa = copies_[i].gpa,
                               .length_bytes = range.length_bytes(),
                               .sha256 = sha256(copies_[i].pages->bytes()),
                               .source = printable(range.source, 128)});
    }
    out.vcpus = parts_.prepared->config().vcpus;
    out.page_order = std::string{measure::name(measure::XenOrder::ascending_gfn)};
    out.xen_version = parts_.prepared->version().text();
    if (parts_.prepared->image().build == measure::XenBuild::later) out.toolstack_version = "process that has built PVH guests before";
    return out;
}

void DomainGuest::recheck() {
    if (const auto found = capture_->differences(written_); !found.empty())
        throw Error{Fault::malformed, fmt::format("domain {} has changed since it was measured: {}", state_.domid, joined(found))};
}

void DomainGuest::write_slot(const GuestSlot& slot) {
    const Copy& copy = copy_with(slot.gpa, slot.length_bytes);
    const std::span<std::uint8_t> content = copy.pages->bytes().subspan(psp::raw(slot.gpa) - psp::raw(copy.gpa), slot.length_bytes);
    if (!plain(slot.name, content))
        throw Error{Fault::usage, fmt::format("slot {}: the PSP left it encrypted, and this guest's memory is not", slot.name),
                    "let the emulated PSP measure only"};
    const Mapping guest =
        parts_.memory->map(state_.domid, psp::raw(slot.gpa) / page_bytes, (slot.length_bytes + page_bytes - 1) / page_bytes, MapAccess::write);
    written_.push_back({.name = slot.name, .sha256 = sha256(content)});
    std::memcpy(guest.bytes().data(), content.data(), content.size());
    OPENSSL_cleanse(content.data(), content.size());
}

void DomainGuest::run() {
    recheck();
    for (const GuestSlot& slot : parts_.prepared->slots())
        if (std::ranges::find(opened_, slot.name) != opened_.end()) write_slot(slot);
    recheck(); // and nothing slipped in meanwhile
    if (parts_.unpause) parts_.domain->unpause();
    else parts_.domain->let_go();
    ran_ = true;
    wipe_copies();
    capture_.reset();
}

void DomainGuest::wipe_copies() noexcept {
    for (const Copy& copy : copies_)
        for (const GuestSlot& slot : parts_.prepared->slots())
            if (slot.gpa >= copy.gpa && psp::raw(slot.gpa) - psp::raw(copy.gpa) + slot.length_bytes <= copy.pages->bytes().size())
                OPENSSL_cleanse(copy.pages->bytes().data() + (psp::raw(slot.gpa) - psp::raw(copy.gpa)), slot.length_bytes);
    copies_.clear();
}

void DomainGuest::destroy() {
    wipe_copies();
    capture_.reset(); // Xen keeps a domain whose pages are mapped
    parts_.domain->destroy();
}

bool DomainGuest::alive() {
    if (!ran_) return false;
    const auto now = parts_.domain->find();
    return now && now->domid == state_.domid && now->uuid == state_.uuid && !now->dying && !now->shutdown;
}

} // namespace sev::launch::xen
