#include "core/experts/prefetch_hints.hpp"

#include <array>
#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

using time_point = std::chrono::steady_clock::time_point;

time_point at_ms(int ms) {
    return time_point() + std::chrono::milliseconds(ms);
}

prefetch_hints always_hints() {
    prefetch_hints hints(16);
    hints.policy.mode = prefetch_mode::always;
    return hints;
}

} // namespace

TEST_CASE("hints are taken likeliest first, and no more than a hint may load") {
    auto hints = always_hints();
    hints.policy.loads_per_hint_max = 2;
    hints.give(3, std::array{expert_hint{7, 0.9F}, expert_hint{1, 0.5F}, expert_hint{4, 0.2F}}, 5, at_ms(0));
    CHECK(hints.waiting() == 2);
    CHECK(hints.counts().refused == 3); // two of five were not absent, one is over the limit
    const auto first = hints.take();
    REQUIRE(first);
    CHECK(first->layer == 3);
    CHECK(first->expert == 7);
    CHECK(hints.take()->expert == 1);
    CHECK_FALSE(hints.take());
}

TEST_CASE("a newer hint and the next wave drop what waits") {
    auto hints = always_hints();
    hints.give(1, std::array{expert_hint{7, 0.9F}}, 1, at_ms(0));
    hints.give(2, std::array{expert_hint{8, 0.9F}, expert_hint{9, 0.8F}}, 2, at_ms(1));
    CHECK(hints.counts().cancelled == 1);
    hints.wave_begins(2, at_ms(2));
    CHECK(hints.counts().cancelled == 3);
    CHECK(hints.waiting() == 0);
}

TEST_CASE("hints for the next two visits wait side by side, the nearer one first") {
    auto hints = always_hints();
    hints.give(1, std::array{expert_hint{7, 0.9F}, expert_hint{6, 0.8F}}, 2, at_ms(0), 1);
    hints.give(2, std::array{expert_hint{8, 0.9F}, expert_hint{9, 0.8F}}, 2, at_ms(0), 2);
    CHECK(hints.counts().cancelled == 0);
    CHECK(hints.take()->layer == 1);
    hints.wave_begins(1, at_ms(1)); // drops what waits for it, and only that
    CHECK(hints.counts().cancelled == 1);
    CHECK(hints.waiting() == 2);
    hints.missed(1, 7);
    CHECK(hints.counts().absent_chosen == 1);
    SUBCASE("a second wave of the same visit leaves the other hint alone") {
        hints.wave_begins(1, at_ms(2));
        CHECK(hints.waiting() == 2);
    }
    SUBCASE("a newer hint for the same visit replaces what waits and remembers what was hinted") {
        CHECK(hints.take()->expert == 8);
        hints.give(2, std::array{expert_hint{9, 0.9F}, expert_hint{3, 0.1F}}, 2, at_ms(2), 1);
        CHECK(hints.counts().absent == 5);
        CHECK(hints.counts().cancelled == 2);
        hints.wave_begins(2, at_ms(3));
        hints.missed(2, 8); // on its way by the earlier hint
        CHECK(hints.counts().absent_chosen == 2);
    }
    SUBCASE("a visit of another layer in its place drops it") {
        hints.wave_begins(3, at_ms(2));
        CHECK(hints.waiting() == 0);
        hints.wave_begins(2, at_ms(3));
        hints.missed(2, 8);
        CHECK(hints.counts().misses == 1);
    }
}

TEST_CASE("with the mode off every hint is refused and still judged") {
    prefetch_hints hints(16);
    hints.give(1, std::array{expert_hint{7, 0.9F}, expert_hint{2, 0.9F}}, 2, at_ms(0));
    CHECK_FALSE(hints.take());
    hints.wave_begins(1, at_ms(1));
    hints.missed(1, 7);
    hints.missed(1, 3);
    CHECK(hints.counts().refused == 2);
    CHECK(hints.counts().absent == 2);
    CHECK(hints.counts().absent_chosen == 1);
    CHECK(hints.counts().misses == 2);
}

TEST_CASE("a layer that was passed, or visited again without a hint, is not judged") {
    auto hints = always_hints();
    hints.give(1, std::array{expert_hint{7, 0.9F}}, 1, at_ms(0));
    hints.wave_begins(2, at_ms(1));
    hints.missed(2, 7);
    hints.wave_begins(1, at_ms(2));
    hints.missed(1, 7);
    CHECK(hints.counts().misses == 0);
}

TEST_CASE("the lead is what lies between a hint and the first wave of its layer") {
    auto hints = always_hints();
    CHECK(hints.lead_s() == 0.0);
    hints.give(1, {}, 0, at_ms(0));
    hints.wave_begins(1, at_ms(4));
    hints.wave_begins(1, at_ms(50)); // a second wave says nothing about the hint
    CHECK(hints.lead_s() == doctest::Approx(0.004));
}

TEST_CASE("probabilities are corrected by how absent experts turned out, and the likeliest ones are remembered") {
    auto hints = always_hints();
    CHECK(hints.likeliest() == 1.0);
    for (int turn = 0; turn < 400; ++turn) {
        hints.give(1, std::array{expert_hint{2, 0.8F}, expert_hint{5, 0.4F}}, 2, at_ms(turn));
        const auto taken = hints.take();
        REQUIRE(taken);
        if (turn == 0)
            CHECK(taken->probability == 0.8F); // nothing is known yet
        if (turn == 399) {
            CHECK(taken->probability == doctest::Approx(0.8 * 0.5 / 1.2).epsilon(0.05));
            CHECK(hints.likeliest() == doctest::Approx(0.8 * 0.5 / 1.2).epsilon(0.05));
        }
        hints.wave_begins(1, at_ms(turn));
        if (turn % 2 == 0)
            hints.missed(1, 2); // half of the time one of the two, where 1.2 were promised
    }
}

TEST_CASE("each distance is corrected by what its own hints kept") {
    auto hints = always_hints();
    for (int turn = 0; turn < 400; ++turn) {
        const std::int32_t layer = turn % 4, next = (turn + 1) % 4, behind = (turn + 2) % 4;
        hints.wave_begins(layer, at_ms(turn));
        if (turn > 0)
            hints.missed(layer, 2); // what was named one visit ahead always, what was named two ahead never
        hints.give(next, std::array{expert_hint{2, 0.5F}}, 1, at_ms(turn), 1);
        hints.give(behind, std::array{expert_hint{7, 0.5F}}, 1, at_ms(turn), 2);
    }
    const auto near = hints.take(), far = hints.take();
    REQUIRE(near);
    REQUIRE(far);
    CHECK(near->expert == 2);
    CHECK(near->probability == doctest::Approx(0.5)); // no more than was said
    CHECK(far->expert == 7);
    CHECK(far->probability == 0.0F);
}

TEST_CASE("random hints, takes and waves: every hint ends once") {
    std::mt19937 random(3);
    auto hints = always_hints();
    std::uint64_t taken = 0;
    for (int turn = 0; turn < 20'000; ++turn) {
        switch (random() % 4) {
        case 0: {
            hints.policy.mode = random() % 5 == 0 ? prefetch_mode::off : prefetch_mode::always;
            std::vector<expert_hint> absent;
            for (std::int32_t expert = 0; expert < static_cast<std::int32_t>(random() % 8); ++expert)
                absent.push_back({expert, 0.5F});
            hints.give(static_cast<std::int32_t>(random() % 4), absent, absent.size() + random() % 3, at_ms(turn),
                       1 + random() % 2);
            break;
        }
        case 1:
            if (hints.take()) {
                if (random() % 2 == 0)
                    hints.refuse();
                else
                    ++taken;
            }
            break;
        case 2:
            hints.wave_begins(static_cast<std::int32_t>(random() % 4), at_ms(turn));
            break;
        default:
            hints.missed(static_cast<std::int32_t>(random() % 4), static_cast<std::int32_t>(random() % 16));
        }
        const auto& counts = hints.counts();
        REQUIRE(counts.given == counts.refused + counts.cancelled + hints.waiting() + taken);
        REQUIRE(counts.absent_chosen <= counts.absent);
        REQUIRE(counts.absent_chosen <= counts.misses);
    }
    CHECK(taken > 100);
    CHECK(hints.counts().cancelled > 100);
}

TEST_CASE("a load pays when what it saves is more than what it costs, and nothing measured means no") {
    CHECK_FALSE(estimate_prefetch(1.0, false, true, {}).worthwhile());
    prefetch_figures disk;
    disk.stall_per_load_s = 2e-3;
    disk.lead_s = 1e-3;
    disk.read_s = 2e-3;
    disk.cpu_s = 1e-4;
    CHECK(estimate_prefetch(0.8, false, true, disk).gain_s == doctest::Approx(0.8e-3));
    CHECK(estimate_prefetch(0.8, false, false, disk).worthwhile());
    CHECK_FALSE(estimate_prefetch(0.05, false, false, disk).worthwhile());

    auto page_cache = disk; // reading is copying: the processor that does it is the step's own
    page_cache.stall_per_load_s = 6e-5;
    CHECK_FALSE(estimate_prefetch(0.9, false, false, page_cache).worthwhile());
    CHECK(estimate_prefetch(0.9, false, true, page_cache).worthwhile());

    // The processor time of a load costs nothing while the step waits, unless the load is all processor time.
    auto loaded = disk;
    loaded.cpu_s = 1e-3;
    CHECK_FALSE(estimate_prefetch(0.8, false, false, loaded).worthwhile());
    loaded.stall_share = 0.6;
    CHECK(estimate_prefetch(0.8, false, false, loaded).cost_s == doctest::Approx(0.7e-3));
    CHECK(estimate_prefetch(0.8, false, false, loaded).worthwhile());
    loaded.cpu_s = loaded.read_s;
    CHECK_FALSE(estimate_prefetch(0.8, false, false, loaded).worthwhile());

    auto regretted = disk;
    regretted.regret = 0.5;
    CHECK(estimate_prefetch(0.8, false, true, regretted).worthwhile());
    CHECK_FALSE(estimate_prefetch(0.8, true, true, regretted).worthwhile());

    auto busy = disk;
    busy.contention = 1;
    // A right read that demand meets is joined; a wrong one holds it up.
    CHECK(estimate_prefetch(0.8, false, true, busy).worthwhile());
    CHECK(estimate_prefetch(0.4, false, true, busy).cost_s == doctest::Approx(0.6e-3));
    CHECK_FALSE(estimate_prefetch(0.4, false, true, busy).worthwhile());
}
