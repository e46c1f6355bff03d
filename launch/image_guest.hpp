// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "launch/guest.hpp"
#include "launch/image_layout.hpp"
#include "psp/physical_memory.hpp"

namespace sev::launch {

/// A guest of image files, in memory that it shares with an emulated PSP. Pinned: the PSP holds its addresses. It has no CPU: `run` means that it
/// may.
class ImageGuest final : public Guest {
public:
    /// Maps each file and copies it into guest memory. Throws Error{Fault::malformed} for parts that overlap, are empty or do not fit their length, a
    /// slot half inside a part, and a last part without the SEV-ES reset block that application processors need; Error{Fault::system} for a file that
    /// cannot be read.
    ImageGuest(const ImageLayout& layout, psp::PageSource& pages);
    ~ImageGuest() override;

    std::vector<Run> locate(psp::Gpa start, std::uint64_t length_bytes) const override;
    void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const override;
    const std::vector<GuestPart>& parts() const override { return parts_; }
    const std::vector<psp::SystemAddress>& vmsas() const override { return vmsas_; }
    std::optional<GuestSlot> slot(std::string_view name) const override;
    attest::LaunchDescriptor descriptor() const override;
    /// Nothing outside this process can have changed it.
    void recheck() override;
    void run() override;
    /// Its memory is unmapped with the object; from now on `alive` is false.
    void destroy() override { running_ = false; }
    bool alive() override { return running_; }
    std::uint64_t measured_bytes() const noexcept;

private:
    struct Piece; // memory of one part, slot or the VMSA pages
    const Piece& piece_with(psp::Gpa start, std::uint64_t length_bytes) const;
    ImageLayout layout_;
    std::vector<std::unique_ptr<Piece>> pieces_;
    std::vector<GuestPart> parts_;
    std::vector<psp::SystemAddress> vmsas_;
    std::unique_ptr<Piece> vmsa_pages_;
    bool running_ = false;
};

} // namespace sev::launch
