#include "tests/execute/test_engine.hpp"

#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>
#include <fstream>
#include <iterator>

using namespace moira;

namespace {

/// A copy of a golden checkpoint that a test may damage while it is open.
class damaged_checkpoint {
public:
    explicit damaged_checkpoint(const std::string& name) {
        std::string pattern = (std::filesystem::temp_directory_path() / "moira-test-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        for (const auto* file : {"config.json", "model.safetensors"})
            std::filesystem::copy_file(golden_folder(name) / file, folder_ / file);
        std::ifstream stream(weights(), std::ios::binary);
        bytes_.assign(std::istreambuf_iterator<char>(stream), {});
    }
    ~damaged_checkpoint() {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    damaged_checkpoint(const damaged_checkpoint&) = delete;
    damaged_checkpoint& operator=(const damaged_checkpoint&) = delete;

    void cut_last(std::uint64_t bytes) const { std::filesystem::resize_file(weights(), bytes_.size() - bytes); }

    void truncate() const { std::filesystem::resize_file(weights(), 64); }

    /// Into the same file, which the engine holds open.
    void restore() const {
        std::fstream stream(weights(), std::ios::binary | std::ios::in | std::ios::out);
        stream.write(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
        REQUIRE(stream.flush());
    }

    const std::filesystem::path& folder() const noexcept { return folder_; }

private:
    std::filesystem::path weights() const { return folder_ / "model.safetensors"; }

    std::filesystem::path folder_;
    std::string bytes_;
};

errc code_of_step(engine& model, const step_plan& plan) {
    const auto outcome = model.run_step(plan);
    REQUIRE(outcome.failure);
    CHECK(outcome.samples.empty());
    CHECK_FALSE(outcome.failure->message.empty());
    return outcome.failure->code;
}

} // namespace

TEST_CASE("a disk that fails in mid-generation fails the step, and later steps work again") {
    for (const std::string name : {"deepseek_v3", "qwen3_moe"}) {
        CAPTURE(name);
        const damaged_checkpoint copy(name);
        auto whole = test_engine::required(golden_folder(name), {});
        const auto top_k = static_cast<std::uint64_t>(whole.model->shape().moe.top_k);
        const auto ids = some_tokens(12);
        const auto expected = logits_of(*whole.model, ids, 4);
        REQUIRE(expected);

        test_engine::wanted how;
        how.options = options_with_slots(top_k, whole.model->slab_bytes());
        auto tested = test_engine::required(copy.folder(), how);
        const auto before = logits_of(*tested.model, ids, 4);
        REQUIRE_MESSAGE(before, before.error().message);
        CHECK(same_bits(*before, *expected));

        copy.truncate();
        const auto broken = logits_of(*tested.model, ids, 4);
        REQUIRE_FALSE(broken);
        CHECK(broken.error().code == errc::io_error);
        CHECK(tested.model->experts().statistics().load_failures > 0);

        copy.restore();
        const auto after = logits_of(*tested.model, ids, 4);
        REQUIRE_MESSAGE(after, after.error().message);
        CHECK(same_bits(*after, *expected));
    }
}

TEST_CASE("an expert that cannot be read names the rows that want it, and the others compute as ever without them") {
    const std::string name = "qwen3_moe";
    const damaged_checkpoint copy(name);
    const auto whole = test_engine::required(golden_folder(name), {});
    const auto ids = some_tokens(12);
    const auto top_k = static_cast<std::uint64_t>(whole.model->shape().moe.top_k);
    const auto experts = static_cast<std::uint64_t>(whole.model->shape().moe.experts);
    for (const std::int32_t rows_max : {12, 8}) // a plain step, and one in blocks
        for (const auto slots : {top_k, experts}) {
            CAPTURE(rows_max);
            CAPTURE(slots);
            test_engine::wanted how;
            how.options = options_with_slots(slots, whole.model->slab_bytes());
            how.options.rows_max = rows_max;
            how.options.sequences_max = 4;
            const auto tested = test_engine::required(copy.folder(), how);
            copy.cut_last(1'025'536 - 986'271); // by its header: the last byte of expert 9 of layer 3, and no other's
            const auto outcome = tested.model->run_step(plan_prompt_rows(ids, 0, 12, tested.model->limits()));
            copy.restore();
            REQUIRE(outcome.failure);
            CHECK(outcome.failure->code == errc::io_error);
            REQUIRE_FALSE(outcome.failed_rows.empty());
            CHECK(outcome.failed_rows.size() < 12);
            CHECK(std::is_sorted(outcome.failed_rows.begin(), outcome.failed_rows.end()));
            CHECK(outcome.failed_rows.back() < 12);
        }
}

TEST_CASE("a token outside the vocabulary fails its step only") {
    for (const auto& plugin : runnable_plugins()) {
        CAPTURE(plugin);
        test_engine::wanted how;
        how.plugin = plugin;
        auto tested = test_engine::required(golden_folder("deepseek_v3"), how);
        const auto ids = some_tokens(6);
        const auto expected = logits_of(*tested.model, ids, 6);
        REQUIRE(expected);
        for (const token_id wrong : {-1, tested.model->shape().vocabulary, 2'000'000'000}) {
            CAPTURE(wrong);
            auto plan = plan_prompt_rows(ids, 0, 6, tested.model->limits());
            plan.tokens[3] = wrong;
            CHECK(code_of_step(*tested.model, plan) == errc::device_error);
            const auto after = logits_of(*tested.model, ids, 6);
            REQUIRE_MESSAGE(after, after.error().message);
            CHECK(same_bits(*after, *expected));
        }
    }
}

TEST_CASE("a page outside the pool fails its step only") {
    for (const auto& plugin : runnable_plugins()) {
        CAPTURE(plugin);
        test_engine::wanted how;
        how.plugin = plugin;
        auto tested = test_engine::required(golden_folder("qwen3_moe"), how);
        const auto ids = some_tokens(3);
        auto plan = plan_prompt_rows(ids, 0, 3, tested.model->limits());
        plan.page_table[0] = tested.model->limits().pages;
        CHECK(code_of_step(*tested.model, plan) == errc::device_error);
        CHECK(logits_of(*tested.model, ids, 3));
    }
}

TEST_CASE("a step that does not fit the arena, or contradicts itself, is refused before anything is written") {
    test_engine::wanted how;
    how.options.rows_max = 8;
    how.options.sequences_max = 2;
    auto tested = test_engine::required(golden_folder("deepseek_v3"), how);
    const auto ids = some_tokens(9);
    const auto& limits = tested.model->limits();
    const auto fitting = plan_prompt_rows(ids, 0, 8, limits);
    CHECK(code_of_step(*tested.model, plan_prompt_rows(ids, 0, 9, limits)) == errc::internal);

    auto pages = fitting;
    pages.page_table.assign(static_cast<std::size_t>(limits.pages) * 2 + 1, 0);
    CHECK(code_of_step(*tested.model, pages) == errc::internal);
    auto ragged = fitting;
    ragged.positions.pop_back();
    CHECK(code_of_step(*tested.model, ragged) == errc::internal);
    for (const std::int32_t row : {-1, 8}) {
        auto sampled = fitting;
        sampled.samples[0].row = row;
        CHECK(code_of_step(*tested.model, sampled) == errc::internal);
    }
    CHECK_FALSE(tested.model->run_step(fitting).failure);
}

TEST_CASE("a budget below one token's experts is refused, with what is needed") {
    auto whole = test_engine::required(golden_folder("deepseek_v3"), {});
    const auto top_k = static_cast<std::uint64_t>(whole.model->shape().moe.top_k);
    for (const auto slots : {std::uint64_t{0}, top_k - 1}) {
        CAPTURE(slots);
        test_engine::wanted how;
        how.options = options_with_slots(slots, whole.model->slab_bytes());
        const auto refused = test_engine::open(golden_folder("deepseek_v3"), how);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::budget_too_small);
    }
}

TEST_CASE("options that contradict each other are refused") {
    const auto code = [](auto change) {
        test_engine::wanted how;
        change(how.options);
        const auto refused = test_engine::open(golden_folder("deepseek_v3"), how);
        REQUIRE_FALSE(refused);
        return refused.error().code;
    };
    CHECK(code([](engine_options& o) { o.rows_max = 4; }) == errc::invalid_config);
    CHECK(code([](engine_options& o) { o.rows_max = 0; }) == errc::invalid_config);
    CHECK(code([](engine_options& o) { o.sequences_max = 0; }) == errc::invalid_config);
    CHECK(code([](engine_options& o) { o.page_tokens = 0; }) == errc::invalid_config);
    CHECK(code([](engine_options& o) { o.context_max = -1; }) == errc::invalid_config);
    CHECK(code([](engine_options& o) { o.experts_budget_share = -0.5; }) == errc::invalid_config);
}
