// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "attest/protocol/launch_descriptor.hpp"
#include "launch/guest_memory.hpp"
#include "launch/image_layout.hpp"
#include "psp/physical_memory.hpp"

namespace sev::launch {

/// A guest of image files in this process's memory, visible to an emulated PSP through `space`. Pinned: the PSP holds its addresses.
class ImageGuest final : public GuestMemory {
public:
    /// Maps each file and copies it into guest memory. Throws Error{Fault::malformed} for parts that overlap, are empty or do not fit their length, a slot half inside a part,
    /// and a last part without the SEV-ES reset block that application processors need; Error{Fault::system} for a file that cannot be read.
    ImageGuest(const ImageLayout& layout, psp::AddressSpace& space);
    ~ImageGuest() override;

    std::vector<Run> locate(psp::Gpa start, std::uint64_t length_bytes) const override;
    void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const override;

    struct Loaded {
        psp::Gpa gpa;
        std::uint64_t length_bytes;
    };
    /// Parts in load order, as measured.
    const std::vector<Loaded>& parts() const noexcept { return parts_; }
    /// VMSA pages in vCPU order; none for plain SEV.
    const std::vector<psp::SystemAddress>& vmsas() const noexcept { return vmsas_; }
    /// nullptr when the layout has no slot of that name.
    const ImageSlot* slot(std::string_view name) const noexcept;
    /// What is about to be loaded, hashed from guest memory as it is now (before LAUNCH_UPDATE_DATA encrypts it).
    attest::LaunchDescriptor descriptor() const;
    std::uint64_t measured_bytes() const noexcept;

private:
    struct Piece; // mapped memory of one part, slot or the VMSA pages
    const Piece& piece_with(psp::Gpa start, std::uint64_t length_bytes) const;
    ImageLayout layout_;
    psp::AddressSpace& space_;
    std::vector<std::unique_ptr<Piece>> pieces_;
    std::vector<Loaded> parts_;
    std::vector<psp::SystemAddress> vmsas_;
    std::unique_ptr<Piece> vmsa_pages_;
};

} // namespace sev::launch
