#include "tests/batch/fake_stream.hpp"

#include <doctest/doctest.h>
#include <map>
#include <set>

namespace moira::test {

namespace {

/// The finaliser of MurmurHash3: every input bit reaches every output bit.
std::uint64_t scramble(std::uint64_t bits) noexcept {
    bits = (bits ^ (bits >> 33)) * 0xff51afd7ed558ccdULL;
    bits = (bits ^ (bits >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    return bits ^ (bits >> 33);
}

} // namespace

std::uint64_t extend_history(std::uint64_t history, token_id token) noexcept {
    return scramble(history * 3 + static_cast<std::uint64_t>(token) + 1);
}

std::vector<float> fake_logits(std::uint64_t history, std::int32_t vocabulary) {
    std::vector<float> logits(static_cast<std::size_t>(vocabulary));
    for (std::size_t i = 0; i < logits.size(); ++i)
        logits[i] = static_cast<float>(scramble(history + i * 0x9e3779b97f4a7c15ULL) >> 40) * 0x1.0p-22f - 2.0f;
    return logits;
}

fake_stream::fake_stream(std::int32_t pages, std::int32_t page_tokens, std::int32_t vocabulary)
    : page_tokens_(page_tokens), vocabulary_(vocabulary), pool_(static_cast<std::size_t>(pages * page_tokens)) {}

std::size_t fake_stream::slot_of(const step_plan& plan, std::size_t row, std::int32_t position) const {
    const auto entry = static_cast<std::size_t>(plan.attention_rows[row].page_table_offset + position / page_tokens_);
    REQUIRE(entry < plan.page_table.size());
    const std::int32_t index = plan.page_table[entry] * page_tokens_ + position % page_tokens_;
    REQUIRE(index >= 0);
    REQUIRE(static_cast<std::size_t>(index) < pool_.size());
    return static_cast<std::size_t>(index);
}

void fake_stream::check_layout(const step_plan& plan) const {
    const auto rows = static_cast<std::size_t>(plan.rows());
    REQUIRE(rows > 0);
    REQUIRE(plan.positions.size() == rows);
    REQUIRE(plan.slots.size() == rows);
    REQUIRE(plan.attention_rows.size() == rows);
    std::set<std::int32_t> tables;
    for (std::size_t row = 0; row < rows; ++row) {
        const moira_attention_row& attention = plan.attention_rows[row];
        REQUIRE(attention.position == plan.positions[row]);
        REQUIRE(attention.context_length == plan.positions[row] + 1);
        REQUIRE(attention.parent == -1);
        REQUIRE(static_cast<std::size_t>(plan.slots[row]) == slot_of(plan, row, plan.positions[row]));
        const bool continues = row > 0 && attention.page_table_offset == plan.attention_rows[row - 1].page_table_offset;
        if (continues)
            REQUIRE(plan.positions[row] == plan.positions[row - 1] + 1);
        else
            REQUIRE(tables.insert(attention.page_table_offset).second);
    }
    REQUIRE(std::ssize(tables) == plan.sequences);
    std::int32_t next_row = 0;
    for (const draft_request& wanted : plan.draft_requests) {
        REQUIRE((wanted.row_first == next_row || (mixed_sources && wanted.row_first > next_row)));
        next_row = wanted.row_first + wanted.rows;
        REQUIRE(plan.attention_rows[static_cast<std::size_t>(wanted.row_first)].page_table_offset ==
                wanted.page_table_offset);
        REQUIRE(wanted.page_table_offset + wanted.pages <= std::ssize(plan.page_table));
        REQUIRE(wanted.samples <= wanted.rows);
        REQUIRE((wanted.tokens_max == 0 || wanted.samples > 0));
        for (std::int32_t i = 0; i < wanted.samples; ++i) {
            const sample_request& sample = plan.samples[static_cast<std::size_t>(wanted.sample_first + i)];
            REQUIRE(sample.request == wanted.request);
            REQUIRE(sample.row == wanted.row_first + wanted.rows - wanted.samples + i);
        }
    }
    REQUIRE((plan.draft_requests.empty() || next_row == plan.rows() || (mixed_sources && next_row < plan.rows())));
}

/// A page that one sequence writes is in no other sequence's table.
void fake_stream::check_pages(const step_plan& plan) const {
    std::set<std::int32_t> slots;
    std::map<std::int32_t, std::int32_t> writers; // page -> table offset
    for (std::size_t row = 0; row < plan.slots.size(); ++row) {
        REQUIRE(slots.insert(plan.slots[row]).second);
        const std::int32_t offset = plan.attention_rows[row].page_table_offset;
        REQUIRE(writers.emplace(plan.slots[row] / page_tokens_, offset).first->second == offset);
    }
    std::map<std::int32_t, int> uses;
    for (const std::int32_t page : plan.page_table)
        ++uses[page];
    for (const auto& [page, offset] : writers)
        REQUIRE(uses[page] == 1);
}

std::uint64_t fake_stream::attend(const step_plan& plan, std::size_t row) {
    std::uint64_t history = 0;
    const std::int32_t own = plan.positions[row];
    for (std::int32_t position = 0; position <= own; ++position) {
        slot& seen = pool_[slot_of(plan, row, position)];
        REQUIRE(seen.position == position);
        history = extend_history(history, seen.token);
        if (position == own)
            seen.history = history;
        REQUIRE(seen.history == history);
    }
    return history;
}

step_result fake_stream::run(const step_plan& plan) {
    check_layout(plan);
    check_pages(plan);
    for (std::size_t row = 0; row < plan.slots.size(); ++row)
        pool_[static_cast<std::size_t>(plan.slots[row])] = {plan.tokens[row], plan.positions[row], 0};
    std::vector<std::uint64_t> histories;
    for (std::size_t row = 0; row < plan.slots.size(); ++row)
        histories.push_back(attend(plan, row));

    step_result outcome;
    outcome.number = plan.number;
    for (const sample_request& wanted : plan.samples) {
        const auto row = static_cast<std::size_t>(wanted.row);
        REQUIRE(row < histories.size());
        REQUIRE(wanted.position == plan.positions[row] + 1);
        const auto logits = fake_logits(histories[row], vocabulary_);
        REQUIRE((!wanted.follows_draft || outcome.samples.back().request == wanted.request));
        sampled_token sample{wanted.request, 0, wanted.follows_draft ? outcome.samples.back().hash : wanted.hash};
        sample.hash.add(logits);
        sample.token = sample_token(logits, wanted.sampling, wanted.position, wanted.history);
        outcome.samples.push_back(sample);
    }
    return outcome;
}

step_result fake_stream::break_down(const step_plan& plan) {
    check_layout(plan);
    check_pages(plan);
    for (const std::int32_t written : plan.slots)
        pool_[static_cast<std::size_t>(written)] = {-2, -2, 0};
    step_result outcome;
    outcome.number = plan.number;
    outcome.failure = error{errc::device_error, "the device broke down on purpose"};
    return outcome;
}

} // namespace moira::test
