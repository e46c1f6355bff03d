// SPDX-License-Identifier: Apache-2.0
#include "base/service/metrics.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::service {
namespace {

bool good_name(std::string_view name) {
    return !name.empty() && name.front() >= 'a' && name.front() <= 'z' &&
           name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string_view::npos;
}

std::string escaped(std::string_view text, bool quotes) {
    std::string out;
    for (const char c : text) {
        if (c == '\\' || (quotes && c == '"'))
            out += {'\\', c};
        else if (c == '\n')
            out += "\\n";
        else
            out += c;
    }
    return out;
}

std::string label_text(const Labels& labels) {
    std::string out;
    for (const auto& [name, value] : labels) {
        require(good_name(name), "a label has a lower-case name");
        out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", name, escaped(value, true));
    }
    return out;
}

std::string number(double value) {
    if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
    if (value == std::floor(value) && std::abs(value) < 1e15) return fmt::format("{:.0f}", value);
    return fmt::format("{}", value);
}

std::string in_braces(const std::string& labels) { return labels.empty() ? "" : "{" + labels + "}"; }

} // namespace

void Metrics::declare(std::string name, Kind kind, std::string help, std::vector<double> bounds) {
    require(good_name(name) && std::ranges::is_sorted(bounds), "a metric has a lower-case name and ascending bounds");
    const std::scoped_lock lock{mutex_};
    const bool added =
        families_.emplace(std::move(name), Family{.kind = kind, .help = std::move(help), .bounds = std::move(bounds), .series = {}}).second;
    require(added, "a metric is declared once");
}

void Metrics::declare_counter(std::string name, std::string help) { declare(std::move(name), Kind::counter, std::move(help), {}); }
void Metrics::declare_gauge(std::string name, std::string help) { declare(std::move(name), Kind::gauge, std::move(help), {}); }
void Metrics::declare_histogram(std::string name, std::string help, std::vector<double> bounds) {
    declare(std::move(name), Kind::histogram, std::move(help), std::move(bounds));
}

Metrics::Series& Metrics::series(std::string_view name, Kind kind, const Labels& labels) {
    const auto family = families_.find(name);
    require(family != families_.end() && family->second.kind == kind, "a metric is declared, and used as that kind");
    Series& found = family->second.series[label_text(labels)];
    found.buckets.resize(family->second.bounds.size());
    return found;
}

void Metrics::add(std::string_view counter, double amount, const Labels& labels) {
    require(amount >= 0, "a counter only grows");
    const std::scoped_lock lock{mutex_};
    series(counter, Kind::counter, labels).value += amount;
}

void Metrics::set(std::string_view gauge, double value, const Labels& labels) {
    const std::scoped_lock lock{mutex_};
    series(gauge, Kind::gauge, labels).value = value;
}

void Metrics::set_counter(std::string_view counter, double value, const Labels& labels) {
    const std::scoped_lock lock{mutex_};
    series(counter, Kind::counter, labels).value = value;
}

void Metrics::observe(std::string_view histogram, double value, const Labels& labels) {
    const std::scoped_lock lock{mutex_};
    Series& to = series(histogram, Kind::histogram, labels);
    const auto& bounds = families_.find(histogram)->second.bounds;
    for (std::size_t i = 0; i < bounds.size(); ++i)
        if (value <= bounds[i]) ++to.buckets[i];
    to.sum += value;
    ++to.count;
}

void Metrics::on_collect(std::function<void(Metrics&)> collect) {
    const std::scoped_lock lock{mutex_};
    collectors_.push_back(std::move(collect));
}

std::string Metrics::text() {
    std::vector<std::function<void(Metrics&)>> collectors;
    {
        const std::scoped_lock lock{mutex_};
        collectors = collectors_;
    }
    for (const auto& collect : collectors) collect(*this);

    const std::scoped_lock lock{mutex_};
    std::string out;
    for (const auto& [name, family] : families_) {
        out += fmt::format("# HELP {} {}\n", name, escaped(family.help, false));
        out += fmt::format("# TYPE {} {}\n", name, family.kind == Kind::counter ? "counter" : family.kind == Kind::gauge ? "gauge" : "histogram");
        for (const auto& [labels, one] : family.series) {
            if (family.kind != Kind::histogram) {
                out += fmt::format("{}{} {}\n", name, in_braces(labels), number(one.value));
                continue;
            }
            const std::string comma = labels.empty() ? "" : labels + ",";
            for (std::size_t i = 0; i < family.bounds.size(); ++i)
                out += fmt::format("{}_bucket{{{}le=\"{}\"}} {}\n", name, comma, number(family.bounds[i]), one.buckets[i]);
            out += fmt::format("{}_bucket{{{}le=\"+Inf\"}} {}\n{}_sum{} {}\n{}_count{} {}\n", name, comma, one.count, name, in_braces(labels),
                               number(one.sum), name, in_braces(labels), one.count);
        }
    }
    return out;
}

} // namespace sev::service
