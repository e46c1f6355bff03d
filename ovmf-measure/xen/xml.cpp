// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/xml.hpp"

#include <algorithm>
#include <memory>

#include <expat.h>
#include <fmt/format.h>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace sev::measure {
namespace {

constexpr std::size_t depth_limit = 64, element_limit = 65536;

/// One parse under way. Nothing is thrown through expat: the first problem is kept and stops it.
struct Builder {
    XML_Parser parser = nullptr;
    XmlElement root;
    std::vector<XmlElement*> open; // the last is the innermost; stays valid, since only its own children grow
    std::size_t elements = 0;
    std::string problem;

    void stop(std::string_view what) {
        if (problem.empty()) problem = what;
        XML_StopParser(parser, XML_FALSE);
    }
    void begin(const char* name, const char** attributes) {
        if (++elements > element_limit) return stop("more than 65536 elements");
        if (open.size() >= depth_limit) return stop("elements are more than 64 deep");
        XmlElement& element = open.empty() ? root : open.back()->children.emplace_back();
        element.name = name;
        element.line = static_cast<unsigned>(XML_GetCurrentLineNumber(parser));
        for (; *attributes; attributes += 2) element.attributes.emplace_back(attributes[0], attributes[1]);
        open.push_back(&element);
    }
};

/// The body must not let anything out into C; memory is all that can run out there.
template <class Body>
void guarded(void* user, Body&& body) noexcept {
    auto& builder = *static_cast<Builder*>(user);
    try {
        body(builder);
    } catch (const std::exception& error) {
        builder.stop("no memory");
        static_cast<void>(error);
    }
}

} // namespace

std::optional<std::string_view> XmlElement::attribute(std::string_view wanted) const {
    for (const auto& [key, value] : attributes)
        if (key == wanted) return value;
    return std::nullopt;
}

const XmlElement* XmlElement::child(std::string_view wanted) const {
    const auto found = std::ranges::find(children, wanted, &XmlElement::name);
    return found == children.end() ? nullptr : &*found;
}

std::size_t XmlElement::count(std::string_view wanted) const {
    return static_cast<std::size_t>(std::ranges::count(children, wanted, &XmlElement::name));
}

XmlElement parse_xml(std::string_view text, std::string_view what, std::size_t limit_bytes) {
    if (text.size() > limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, more than the limit of {}", what, text.size(), limit_bytes)};
    const std::unique_ptr<XML_ParserStruct, void (*)(XML_Parser)> parser{XML_ParserCreate("UTF-8"), &XML_ParserFree};
    if (!parser) throw Error{Fault::system, "expat: no parser"};
    Builder builder;
    builder.parser = parser.get();
    XML_SetUserData(parser.get(), &builder);
    XML_SetElementHandler(
        parser.get(), [](void* user, const char* name, const char** attributes) { guarded(user, [&](Builder& b) { b.begin(name, attributes); }); },
        [](void* user, const char*) { guarded(user, [](Builder& b) { b.open.pop_back(); }); });
    XML_SetCharacterDataHandler(parser.get(), [](void* user, const char* data, int length) {
        guarded(user, [&](Builder& b) {
            if (!b.open.empty()) b.open.back()->text.append(data, static_cast<std::size_t>(length));
        });
    });
    XML_SetStartDoctypeDeclHandler(parser.get(), [](void* user, const char*, const char*, const char*, int) {
        guarded(user, [](Builder& b) { b.stop("a document type declaration, which a domain does not have"); });
    });
    const XML_Status status = XML_Parse(parser.get(), text.data(), static_cast<int>(text.size()), XML_TRUE);
    if (status != XML_STATUS_OK || !builder.problem.empty()) {
        const char* own = XML_ErrorString(XML_GetErrorCode(parser.get()));
        throw Error{Fault::malformed,
                    fmt::format("{}: line {}: {}", what, XML_GetCurrentLineNumber(parser.get()), builder.problem.empty() ? own : builder.problem)};
    }
    return std::move(builder.root);
}

} // namespace sev::measure
