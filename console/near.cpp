// SPDX-License-Identifier: Apache-2.0
#include "console/near.hpp"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <utility>

namespace sev::cli {
namespace {

constexpr std::size_t longest = 100; // of a word that is looked at
constexpr std::size_t most = 3;

std::string lower(std::string_view text) {
    std::string out{text};
    std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
}

/// How many letters must be put in, taken out or changed (Levenshtein).
std::size_t distance(std::string_view left, std::string_view right) {
    std::vector<std::size_t> row(right.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < left.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < right.size(); ++j) {
            const std::size_t changed = diagonal + (left[i] == right[j] ? 0 : 1);
            diagonal = std::exchange(row[j + 1], std::min({row[j] + 1, row[j + 1] + 1, changed}));
        }
    }
    return row.back();
}

} // namespace

std::vector<std::string> near_matches(std::string_view word, const std::vector<std::string>& candidates) {
    if (word.size() < 2 || word.size() > longest) return {};
    const std::string wanted = lower(word);
    std::vector<std::pair<std::size_t, std::string>> found;
    for (const std::string& candidate : candidates) {
        if (candidate.size() > longest) continue;
        const std::string theirs = lower(candidate);
        const std::size_t changes = distance(wanted, theirs);
        // a part that was remembered counts as near as one wrong letter in three
        if (changes <= std::max<std::size_t>(1, wanted.size() / 3)) found.emplace_back(changes, candidate);
        else if (wanted.size() >= 3 && theirs.find(wanted) != std::string::npos) found.emplace_back(longest + theirs.size(), candidate);
    }
    std::ranges::sort(found);
    found.erase(std::unique(found.begin(), found.end()), found.end());
    std::vector<std::string> out;
    for (std::size_t i = 0; i < std::min(most, found.size()); ++i) out.push_back(found[i].second);
    return out;
}

} // namespace sev::cli
