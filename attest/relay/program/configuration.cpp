// SPDX-License-Identifier: Apache-2.0
#include "attest/relay/program/configuration.hpp"

#include <fmt/format.h>

#include "base/json.hpp"

namespace sev::relay {

void Configuration::read(const Path& path) {
    const std::string what = printable(path.string(), 4096);
    const json::Value value = json::parse(read_text(path, limit_bytes), what, {.bytes = limit_bytes, .depth = 4});
    json::Object object{value, what};
    if (const std::string got = object.string("format"); got != format)
        object.refuse("format", fmt::format("is {}, want {}", printable(got), format));
    if (const auto got = object.number("version", 1000); got != 1) object.refuse("version", fmt::format("is {}, want 1", got));
    settings.servers.cek = object.string_or("cek_url", settings.servers.cek);
    settings.servers.ca = object.string_or("ca_url", settings.servers.ca);
    network.proxy = object.string_or("proxy", network.proxy);
    network.no_proxy = object.string_or("no_proxy", network.no_proxy);
    network.ca_file = object.string_or("cacert", network.ca_file.string());
    cache = object.string_or("cache", cache.string());
    const auto seconds = [](std::uint64_t count) { return std::chrono::seconds{static_cast<std::int64_t>(count)}; };
    if (object.has("deadline_seconds")) settings.deadline = seconds(object.number("deadline_seconds", 86400));
    if (object.has("missing_hours")) settings.missing_for = seconds(3600 * object.number("missing_hours", 168));
    owner.url = object.string_or("owner_url", owner.url);
    owner_ca_file = object.string_or("owner_cacert", owner_ca_file.string());
    network.certificate = object.string_or("owner_cert", network.certificate.string());
    network.key = object.string_or("owner_key", network.key.string());
    if (object.has("owner_deadline_seconds")) owner.deadline = seconds(object.number("owner_deadline_seconds", 3600));
    object.done();
    if (!owner.url.empty()) within(what + ": owner_url", [&] { check_owner_url(owner.url); });
    endorsement::check_pattern(settings.servers.cek, "{id}", what + ": cek_url");
    endorsement::check_pattern(settings.servers.ca, "{product}", what + ": ca_url");
}

psp::Root parse_root(std::string_view text) {
    const auto last = text.rfind(':');
    const auto middle = last == std::string_view::npos || last == 0 ? std::string_view::npos : text.rfind(':', last - 1);
    if (middle == std::string_view::npos || middle == 0)
        throw Error{Fault::usage,
                    fmt::format("--root: {} is no root, want LABEL:PRODUCT:FINGERPRINT", text.empty() ? "an empty text" : printable(text))};
    const auto product_name = text.substr(middle + 1, last - middle - 1);
    const auto product = psp::product_named(product_name);
    if (!product)
        throw Error{Fault::usage, fmt::format("--root: product is {}, want naples, rome, milan, genoa or turin",
                                              product_name.empty() ? "empty" : printable(product_name))};
    const auto fingerprint = try_unhex(text.substr(last + 1));
    if (!fingerprint || fingerprint->size() != std::tuple_size_v<Digest>)
        throw Error{Fault::usage, fmt::format("--root: fingerprint is {}, want 64 hex digits", printable(text.substr(last + 1)))};
    psp::Root root{.label = printable(text.substr(0, middle)), .product = *product, .fingerprint = {}};
    std::ranges::copy(*fingerprint, root.fingerprint.begin());
    return root;
}

} // namespace sev::relay
