// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/wanted.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "ovmf-measure/xen/config_readers.hpp"

namespace sev::launch::xen {
namespace {

constexpr std::uint64_t last_domid = 0x7FEF;
constexpr std::size_t uuid_size = 36;

/// In lower case; nullopt for what is no UUID.
std::optional<std::string> canonical_uuid(std::string_view text) {
    if (text.size() != uuid_size) return std::nullopt;
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        const char c = text[i] >= 'A' && text[i] <= 'F' ? static_cast<char>(text[i] - 'A' + 'a') : text[i];
        if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return std::nullopt;
        out += c;
    }
    return out;
}

} // namespace

WantedDomain WantedDomain::parse(const json::Value& guest) {
    WantedDomain out;
    json::Object object{guest, "guest"};
    object.string("kind", 16);
    const int given = int{object.has("xl_cfg")} + int{object.has("xl_cfg_text")} + int{object.has("domid")};
    if (given != 1) object.refuse("xl_cfg", "and xl_cfg_text, domid: want exactly one of them");
    for (const char* const key : {"uuid", "unpause"})
        if (object.has(key) && !object.has("domid")) object.refuse(key, "goes with domid alone");
    if (object.has("xl_cfg")) {
        out.file = Path{object.string("xl_cfg", 4096)};
        if (!out.file->is_absolute()) object.refuse("xl_cfg", fmt::format("is {}, want an absolute path", printable(out.file->string(), 4096)));
    } else if (object.has("xl_cfg_text")) {
        out.text = object.string("xl_cfg_text", measure::xen_config_limit_bytes);
    } else {
        out.domid = static_cast<std::uint32_t>(object.number("domid", last_domid));
        if (*out.domid == 0) object.refuse("domid", "is 0, which is dom0");
        if (object.has("uuid")) {
            const std::string text = object.string("uuid", 64);
            out.uuid = canonical_uuid(text);
            if (!out.uuid)
                object.refuse("uuid", fmt::format("is \"{}\", want one such as 0c2f5b8e-0000-4000-8000-000000000007", printable(text, 64)));
        }
        out.unpause = object.boolean_or("unpause", true);
    }
    object.done();
    return out;
}

json::Value WantedDomain::to_json() const {
    json::Value out{{"kind", "xen"}};
    if (file) out["xl_cfg"] = file->string();
    if (text) out["xl_cfg_text"] = *text;
    if (domid) out["domid"] = *domid;
    if (uuid) out["uuid"] = *uuid;
    if (!unpause) out["unpause"] = false;
    return out;
}

void WantedDomain::check_uuid(const std::string& found) const {
    if (uuid && *uuid != found)
        throw Error{Fault::usage, fmt::format("domain {}: is another one by now: its UUID is {}, want {}", *domid, printable(found, 64), *uuid),
                    "domain numbers are used again: ask anew, with the number that the guest has now"};
}

} // namespace sev::launch::xen
