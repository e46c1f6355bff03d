// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sev::measure {

/// An element of an XML document. Text is what stands in it directly, put together; children are in order.
struct XmlElement {
    std::string name;
    unsigned line = 0;
    std::vector<std::pair<std::string, std::string>> attributes;
    std::string text;
    std::vector<XmlElement> children;

    std::optional<std::string_view> attribute(std::string_view name) const;
    /// The first child of that name; nullptr when there is none.
    const XmlElement* child(std::string_view name) const;
    std::size_t count(std::string_view name) const;
};

/// Parses a document: UTF-8, at most `limit_bytes`, 64 elements deep, 65536 in all. A document type declaration is refused, so there are no entities
/// but the five of XML itself. Throws Error{Fault::malformed} "<what>: line N: …".
XmlElement parse_xml(std::string_view text, std::string_view what, std::size_t limit_bytes);

} // namespace sev::measure
