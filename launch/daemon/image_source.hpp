// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>

#include "launch/image_guest.hpp"

namespace sev::daemon {

/// Guests of image files: {"kind": "image", "layout": PATH}. They live in the daemon's memory, and end with it.
class ImageSource final : public launch::GuestSource {
public:
    ImageSource(psp::PageSource& pages, std::uint64_t memory_limit_bytes) : pages_{pages}, limit_bytes_{memory_limit_bytes} {}
    std::string_view kind() const noexcept override { return "image"; }
    unsigned level() const noexcept override { return 0; }
    Plan plan(const json::Value& guest) override;
    /// Throws Error{Fault::system} when all image guests together would take more than the limit.
    std::unique_ptr<launch::Guest> open(const json::Value& guest, const json::Value& identity) override;
    std::unique_ptr<launch::Guest> adopt(const json::Value& identity) override;
    bool same_guest(const json::Value&, const json::Value&) const override { return false; } // each is of files that are read anew
    std::string destroy_leftover(const json::Value& identity) override;

private:
    psp::PageSource& pages_;
    std::uint64_t limit_bytes_;
    std::shared_ptr<std::atomic<std::uint64_t>> used_bytes_ = std::make_shared<std::atomic<std::uint64_t>>(0);
};

} // namespace sev::daemon
