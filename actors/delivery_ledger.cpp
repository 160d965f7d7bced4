#include "actors/delivery_ledger.hpp"

#include <algorithm>
#include <limits>

namespace moira {

result<std::uint64_t> delivery_ledger::open(std::uint64_t sink, std::uint64_t tag, std::uint32_t credit) {
    if (credit > delta_credit_max)
        return fail(errc::invalid_argument, "credit " + std::to_string(credit) + " is beyond " +
                                                std::to_string(delta_credit_max) + "; grant more while deltas arrive");
    if (entries_.size() >= embedded_requests_max)
        return fail(errc::queue_full, std::to_string(entries_.size()) + " requests are open; wait for one to end");
    const auto [place, is_new] = numbers_.emplace(std::pair(sink, tag), last_number_ + 1);
    if (!is_new)
        return fail(errc::duplicate_id, "tag " + std::to_string(tag) + " is open; choose one that is not");
    entries_.emplace(++last_number_, entry{{sink, tag}, credit, {}});
    return place->second;
}

std::optional<std::uint64_t> delivery_ledger::number_of(std::uint64_t sink, std::uint64_t tag) const {
    const auto found = numbers_.find({sink, tag});
    return found == numbers_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<delivery_ledger::delta> delivery_ledger::send(entry& open) {
    if (open.credit == 0 || open.held.empty())
        return std::nullopt;
    --open.credit;
    return delta{open.of, std::exchange(open.held, {})};
}

std::optional<delivery_ledger::delta> delivery_ledger::add(std::uint64_t number, const std::vector<token_id>& token_ids,
                                                           const std::string& text) {
    const auto found = entries_.find(number);
    if (found == entries_.end())
        return std::nullopt;
    auto& held = found->second.held;
    held.token_ids.insert(held.token_ids.end(), token_ids.begin(), token_ids.end());
    held.text += text;
    return send(found->second);
}

std::optional<delivery_ledger::delta> delivery_ledger::grant(std::uint64_t number, std::uint32_t count) {
    const auto found = entries_.find(number);
    if (found == entries_.end())
        return std::nullopt;
    auto& credit = found->second.credit;
    credit += std::min(count, delta_credit_max - credit);
    return send(found->second);
}

std::optional<delivery_ledger::delta> delivery_ledger::close(std::uint64_t number) {
    const auto found = entries_.find(number);
    if (found == entries_.end())
        return std::nullopt;
    delta last{found->second.of, std::move(found->second.held)};
    numbers_.erase({last.of.sink, last.of.tag});
    entries_.erase(found);
    return last;
}

std::vector<std::uint64_t> delivery_ledger::forget(std::uint64_t sink) {
    std::vector<std::uint64_t> numbers;
    auto each = numbers_.lower_bound({sink, 0});
    while (each != numbers_.end() && each->first.first == sink) {
        numbers.push_back(each->second);
        entries_.erase(each->second);
        each = numbers_.erase(each);
    }
    return numbers;
}

std::vector<std::uint64_t> delivery_ledger::open_numbers() const {
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, open] : entries_)
        numbers.push_back(number);
    return numbers;
}

bool delivery_ledger::has_open(std::uint64_t sink) const {
    const auto next = numbers_.lower_bound({sink, 0});
    return next != numbers_.end() && next->first.first == sink;
}

} // namespace moira
