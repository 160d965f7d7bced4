#pragma once

#include "core/batch/step_plan.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace moira::test {

/// What a history of tokens means to the fake model. Every token changes it, and so does its order.
std::uint64_t extend_history(std::uint64_t history, token_id token) noexcept;
std::vector<float> fake_logits(std::uint64_t history, std::int32_t vocabulary);

/// An execution stream whose model is a hash of the history that attention reads through the page table. It emulates
/// the KV pool: a slot holds a token, its position, and what all tokens before it were when it was written, as real
/// keys and values do. A plan that lets a row see anything but its own history fails the test.
class fake_stream {
public:
    fake_stream(std::int32_t pages, std::int32_t page_tokens, std::int32_t vocabulary);

    step_result run(const step_plan& plan);

    /// A step that fails after it has scribbled over the slots it was to write.
    step_result break_down(const step_plan& plan);

    bool mixed_sources = false; ///< not every sequence need draft with the model where one does

private:
    struct slot {
        token_id token = -1;
        std::int32_t position = -1;
        std::uint64_t history = 0;
    };

    void check_layout(const step_plan& plan) const;
    void check_pages(const step_plan& plan) const;
    std::uint64_t attend(const step_plan& plan, std::size_t row);
    std::size_t slot_of(const step_plan& plan, std::size_t row, std::int32_t position) const;

    std::int32_t page_tokens_;
    std::int32_t vocabulary_;
    std::vector<slot> pool_;
};

} // namespace moira::test
