// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace sev::service {

/// Names and values: {{"state", "running"}}.
using Labels = std::vector<std::pair<std::string, std::string>>;

/// A program's metrics, as Prometheus' text format 0.0.4 has them (https://prometheus.io/docs/instrumenting/exposition_formats/). Thread-safe. A
/// family is declared once, with its help; using one that was not, or another kind of it, throws Error{Fault::bug}, and so does a name or label
/// outside [a-z_][a-z0-9_]*.
class Metrics {
public:
    static constexpr const char* content_type = "text/plain; version=0.0.4; charset=utf-8";
    void declare_counter(std::string name, std::string help); // by custom "…_total"
    void declare_gauge(std::string name, std::string help);
    /// `bounds`: upper ends of the buckets, ascending; +Inf comes by itself.
    void declare_histogram(std::string name, std::string help, std::vector<double> bounds);
    void add(std::string_view counter, double amount = 1, const Labels& labels = {});
    void set(std::string_view gauge, double value, const Labels& labels = {});
    void observe(std::string_view histogram, double value, const Labels& labels = {});
    /// Called before each `text`, to set gauges and counters that somebody else keeps.
    void on_collect(std::function<void(Metrics&)> collect);
    /// A counter that somebody else counts: sets its absolute value.
    void set_counter(std::string_view counter, double value, const Labels& labels = {});
    std::string text();

private:
    enum class Kind { counter, gauge, histogram };
    struct Series {
        double value = 0, sum = 0;
        std::uint64_t count = 0;
        std::vector<std::uint64_t> buckets;
    };
    struct Family {
        Kind kind;
        std::string help;
        std::vector<double> bounds;
        std::map<std::string, Series> series; // by label text
    };
    Series& series(std::string_view name, Kind kind, const Labels& labels);
    void declare(std::string name, Kind kind, std::string help, std::vector<double> bounds);
    std::mutex mutex_;
    std::map<std::string, Family, std::less<>> families_;
    std::vector<std::function<void(Metrics&)>> collectors_;
};

} // namespace sev::service
