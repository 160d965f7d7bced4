#include "core/evaluate/divergence.hpp"
#include "core/evaluate/golden.hpp"
#include "core/evaluate/perplexity.hpp"
#include "core/evaluate/prompt_pass.hpp"
#include "core/evaluate/token_likelihood.hpp"

#include "tests/execute/test_engine.hpp"

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr std::size_t tokens = 61;

test_engine opened(const std::string& model, const std::string& plugin, std::int32_t rows_max,
                   std::uint32_t threads = 1) {
    test_engine::wanted how;
    how.plugin = plugin;
    how.threads = threads;
    how.options.context_max = 128;
    how.options.rows_max = rows_max;
    how.options.sequences_max = std::min(rows_max, how.options.sequences_max);
    return test_engine::required(golden_folder(model), how);
}

scored_text text_of(std::int32_t window, std::int32_t stride) {
    scored_text text;
    text.ids = some_tokens(tokens);
    text.bytes.assign(tokens, 3);
    auto windows = cut_windows(tokens, window, stride);
    REQUIRE(windows);
    text.windows = std::move(*windows);
    return text;
}

/// What a token costs after the ones before it, from a whole pass of its own and the plain definition.
double slow_nll(engine& model, const std::vector<token_id>& ids, std::size_t first, std::size_t token) {
    const std::vector<token_id> before(ids.begin() + static_cast<std::ptrdiff_t>(first),
                                       ids.begin() + static_cast<std::ptrdiff_t>(token));
    const auto pass = run_prompt(model, before, {});
    REQUIRE_MESSAGE(pass, pass.error().message);
    const auto width = static_cast<std::size_t>(model.shape().vocabulary);
    const float* const row = pass->logits.data() + (before.size() - 1) * width;
    long double sum = 0;
    for (std::size_t each = 0; each < width; ++each)
        sum += std::exp(static_cast<long double>(row[each]));
    return static_cast<double>(std::log(sum)) - static_cast<double>(row[ids[token]]);
}

} // namespace

TEST_CASE("the likelihood is that of one token after the other, whatever the windows and steps") {
    for (const std::string model : {"deepseek_v3", "qwen3_moe"}) {
        auto slow = opened(model, "cpu_reference", 64);
        for (const auto& [window, stride] : {std::pair{61, 61}, {100, 100}, {16, 16}, {16, 5}})
            for (const std::int32_t rows_max : {7, 64}) {
                CAPTURE(model);
                CAPTURE(window);
                CAPTURE(stride);
                CAPTURE(rows_max);
                const auto text = text_of(window, stride);
                double expected = 0;
                std::uint64_t scored = 0;
                for (const auto& each : text.windows)
                    for (auto token = each.scored_first; token < each.last; ++token, ++scored)
                        expected += slow_nll(*slow.model, text.ids, each.first, token);
                auto fast = opened(model, "cpu_reference", rows_max);
                const auto found = measure_likelihood(*fast.model, text, {});
                REQUIRE_MESSAGE(found, found.error().message);
                CHECK(found->nll.tokens() == scored);
                CHECK(found->bytes == 3 * scored);
                CHECK(found->windows == text.windows.size());
                CHECK(found->nll.sum(0) == doctest::Approx(expected).epsilon(1e-12));
                CHECK(found->perplexity() ==
                      doctest::Approx(std::exp(expected / static_cast<double>(scored))).epsilon(1e-12));
                CHECK(*found->bits_per_byte() ==
                      doctest::Approx(expected / std::log(2.0) / static_cast<double>(found->bytes)).epsilon(1e-12));
            }
    }
}

TEST_CASE("the likelihood is what another implementation's logits say") {
    for (const std::string model : {"deepseek_v3", "qwen3_moe"}) {
        CAPTURE(model);
        const auto record = read_golden(golden_folder(model));
        REQUIRE_MESSAGE(record, record.error().message);
        const auto width = static_cast<std::size_t>(record->vocabulary);
        scored_text text;
        text.ids = record->input_ids;
        text.bytes.assign(text.ids.size(), 1);
        text.windows = {{0, 1, text.ids.size()}};
        double expected = 0;
        for (std::size_t row = 0; row + 1 < text.ids.size(); ++row) {
            const auto scored = logits_row::of(std::span(record->logits).subspan(row * width, width));
            REQUIRE(scored);
            expected += scored->nll(text.ids[row + 1]);
        }
        auto opened_model = opened(model, "cpu_reference", 64);
        const auto found = measure_likelihood(*opened_model.model, text, {});
        REQUIRE_MESSAGE(found, found.error().message);
        // Logits agree to about 1e-4.
        CHECK(found->nll_per_token() ==
              doctest::Approx(expected / static_cast<double>(text.ids.size() - 1)).epsilon(1e-4));
    }
}

TEST_CASE("a text of tokens that no byte stands for has no bits per byte") {
    auto model = opened("qwen3_moe", "cpu_reference", 64);
    auto text = text_of(64, 64);
    text.bytes.assign(tokens, 0);
    const auto found = measure_likelihood(*model.model, text, {});
    REQUIRE(found);
    CHECK_FALSE(found->bits_per_byte());
}

TEST_CASE("an interrupted measurement keeps the windows that are complete") {
    auto model = opened("qwen3_moe", "cpu_reference", 64);
    const auto text = text_of(16, 16);
    const auto whole = measure_likelihood(*model.model, text, {});
    const auto cut = measure_likelihood(*model.model, text, [](const auto& so_far) { return so_far.windows == 2; });
    REQUIRE(whole);
    REQUIRE(cut);
    CHECK_FALSE(whole->interrupted);
    CHECK(cut->interrupted);
    CHECK(cut->windows == 2);
    CHECK(cut->nll.tokens() == 30);
    const auto parted = measure_divergence(*model.model, *model.model, text, [](const auto&) { return true; });
    REQUIRE(parted);
    CHECK(parted->interrupted);
    CHECK(parted->sums.tokens() == 15);
    // Asked after the last window there is nothing left to interrupt.
    const auto late = measure_likelihood(*model.model, text,
                                         [&](const auto& so_far) { return so_far.windows == text.windows.size(); });
    REQUIRE(late);
    CHECK_FALSE(late->interrupted);
}

TEST_CASE("equal settings do not part at all, whatever steps and threads") {
    for (const auto& plugin : runnable_plugins()) {
        CAPTURE(plugin);
        auto one = opened("deepseek_v3", plugin, 64), other = opened("deepseek_v3", plugin, 7, 2);
        const auto found = measure_divergence(*one.model, *other.model, text_of(16, 5), {});
        REQUIRE_MESSAGE(found, found.error().message);
        CHECK(found->sums.tokens() == tokens - 1);
        CHECK(found->mean_kl() == 0.0);
        CHECK(found->agreement() == 1.0);
        CHECK(found->delta() == 0.0);
        CHECK(found->sums.bootstrap(text_divergence::kl).high == 0.0);
        CHECK(found->sums.bootstrap(text_divergence::top1_agreement).low == 1.0);
    }
}

TEST_CASE("the divergence of two plugins is that of their whole logits") {
    const auto plugins = runnable_plugins();
    auto reference = opened("qwen3_moe", "cpu_reference", 64), tested = opened("qwen3_moe", plugins.back(), 64);
    const auto text = text_of(64, 64);
    const auto found = measure_divergence(*reference.model, *tested.model, text, {});
    const auto p = run_prompt(*reference.model, text.ids, {}), q = run_prompt(*tested.model, text.ids, {});
    REQUIRE(found);
    REQUIRE(p);
    REQUIRE(q);
    const auto width = static_cast<std::size_t>(reference.model->shape().vocabulary);
    long double divergence = 0, delta = 0;
    int agreed = 0;
    for (std::size_t row = 0; row + 1 < tokens; ++row) {
        const std::span<const float> ps(p->logits.data() + row * width, width),
            qs(q->logits.data() + row * width, width);
        long double p_sum = 0, q_sum = 0;
        for (std::size_t each = 0; each < width; ++each) {
            p_sum += std::exp(static_cast<long double>(ps[each]));
            q_sum += std::exp(static_cast<long double>(qs[each]));
        }
        for (std::size_t each = 0; each < width; ++each)
            divergence += std::exp(static_cast<long double>(ps[each])) / p_sum *
                          ((static_cast<long double>(ps[each]) - std::log(p_sum)) -
                           (static_cast<long double>(qs[each]) - std::log(q_sum)));
        const auto next = static_cast<std::size_t>(text.ids[row + 1]);
        delta += (std::log(q_sum) - static_cast<long double>(qs[next])) -
                 (std::log(p_sum) - static_cast<long double>(ps[next]));
        agreed +=
            std::max_element(ps.begin(), ps.end()) - ps.begin() == std::max_element(qs.begin(), qs.end()) - qs.begin()
                ? 1
                : 0;
    }
    CHECK(found->sums.tokens() == tokens - 1);
    const auto kl = static_cast<double>(divergence) / (tokens - 1),
               nll_delta = static_cast<double>(delta) / (tokens - 1);
    CHECK(std::abs(found->mean_kl() - kl) < 1e-9);
    CHECK(std::abs(found->delta() - nll_delta) < 1e-9);
    // Where the plugins do part (bfloat16), to more digits than that.
    if (kl > 1e-7) {
        CHECK(found->mean_kl() / kl == doctest::Approx(1).epsilon(1e-6));
        CHECK(found->delta() / nll_delta == doctest::Approx(1).epsilon(1e-6));
    }
    CHECK(found->agreement() == doctest::Approx(static_cast<double>(agreed) / (tokens - 1)).epsilon(1e-12));
    const auto likelihood = measure_likelihood(*tested.model, text, {});
    REQUIRE(likelihood);
    CHECK(found->nll_tested() == likelihood->nll_per_token());
}

TEST_CASE("windows beyond the context, foreign tokens and foreign models are refused") {
    auto model = opened("qwen3_moe", "cpu_reference", 64), other = opened("deepseek_v3", "cpu_reference", 64);
    scored_text text = text_of(16, 16);
    text.ids[20] = model.model->shape().vocabulary;
    const auto foreign = measure_likelihood(*model.model, text, {});
    REQUIRE_FALSE(foreign);
    CHECK(foreign.error().code == errc::token_out_of_range);
    scored_text large;
    large.ids = some_tokens(200);
    large.bytes.assign(200, 1);
    large.windows = {{0, 1, 200}};
    const auto beyond = measure_likelihood(*model.model, large, {});
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == errc::prompt_too_long);
    if (model.model->shape().vocabulary != other.model->shape().vocabulary)
        CHECK_FALSE(measure_divergence(*model.model, *other.model, text_of(16, 16), {}));
}
