// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>

#include "base/file.hpp"
#include "base/json.hpp"

namespace sev::launch::xen {

/// Which domain a launch request is about: its "guest" object, {"kind": "xen"} with exactly one of "xl_cfg" (absolute path), "xl_cfg_text" and
/// "domid". With "domid" there may be "uuid", which the domain's UUID must then be, and "unpause": false, for a domain that whoever asks resumes
/// after it was attested.
struct WantedDomain {
    std::optional<Path> file;
    std::optional<std::string> text;
    std::optional<std::uint32_t> domid;
    std::optional<std::string> uuid; // lower case, with dashes
    bool unpause = true;

    /// Throws Error{Fault::malformed} "guest: uuid is …, want …".
    static WantedDomain parse(const json::Value& guest);
    /// As `parse` reads it.
    json::Value to_json() const;
    /// Throws Error{Fault::usage} when a UUID is asked for and this is not it.
    void check_uuid(const std::string& found) const;
    friend bool operator==(const WantedDomain&, const WantedDomain&) = default;
};

} // namespace sev::launch::xen
