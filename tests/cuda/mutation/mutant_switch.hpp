// Included before every other line when mutants are built behind switches (plant.py): `a + b` becomes
// `a + mutant_plus(7) + b`, which is `a - b` in a process with MOIRA_MUTANT=7 and `a + b` in every other. Precedence
// and grouping stay those of the operator that was written. What the compiler evaluates keeps its value: such a mutant
// is not reached at run time and is built on its own.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <type_traits>

namespace moira {

struct mutant_switches {
    static constexpr int count_max = 1 << 16;
    int active = -1;
    unsigned char reached[count_max] = {};

    mutant_switches() {
        if (const char* number = std::getenv("MOIRA_MUTANT"))
            active = std::atoi(number);
    }
    // The numbers of the mutants that this process came by, for a process that runs without any.
    ~mutant_switches() {
        const char* path = std::getenv("MOIRA_MUTANTS_REACHED");
        std::FILE* file = path != nullptr ? std::fopen(path, "w") : nullptr;
        for (int number = 0; file != nullptr && number < count_max; ++number)
            if (reached[number])
                std::fprintf(file, "%d\n", number);
        if (file != nullptr)
            std::fclose(file);
    }
};
inline mutant_switches all_mutant_switches;

// Without memory hooks: what is read here is not the kernel's.
__attribute__((noinline, no_sanitize("thread"))) inline bool mutant_asked(int number) {
    all_mutant_switches.reached[number] = 1;
    return all_mutant_switches.active == number;
}
// The mutant would not compile.
[[noreturn]] inline void mutant_invalid() {
    std::_Exit(99);
}

#define MOIRA_MUTANT_FN __attribute__((always_inline)) constexpr

MOIRA_MUTANT_FN bool mutant(int number) {
    if (std::is_constant_evaluated())
        return false;
    return mutant_asked(number);
}

#define MOIRA_MUTANT_OPERATOR(name, was, becomes)                                                                      \
    struct name {                                                                                                      \
        int number;                                                                                                    \
        MOIRA_MUTANT_FN explicit name(int n) : number(n) {}                                                            \
    };                                                                                                                 \
    template <class Left>                                                                                              \
    struct name##_left {                                                                                               \
        Left value;                                                                                                    \
        int number;                                                                                                    \
    };                                                                                                                 \
    template <class Left>                                                                                              \
    MOIRA_MUTANT_FN name##_left<std::decay_t<Left>> operator was(const Left& left, name switched) {                    \
        return {left, switched.number};                                                                                \
    }                                                                                                                  \
    template <class Left, class Right>                                                                                 \
    MOIRA_MUTANT_FN auto operator was(const name##_left<Left>& left, const Right& right) {                             \
        if (mutant(left.number)) {                                                                                     \
            if constexpr (requires { left.value becomes right; })                                                      \
                return decltype(left.value was right)(left.value becomes right);                                       \
            else                                                                                                       \
                mutant_invalid();                                                                                      \
        }                                                                                                              \
        return left.value was right;                                                                                   \
    }

MOIRA_MUTANT_OPERATOR(mutant_less, <, <=)
MOIRA_MUTANT_OPERATOR(mutant_less_equal, <=, <)
MOIRA_MUTANT_OPERATOR(mutant_greater_equal, >=, >)
MOIRA_MUTANT_OPERATOR(mutant_greater, >, <)
MOIRA_MUTANT_OPERATOR(mutant_equal, ==, !=)
MOIRA_MUTANT_OPERATOR(mutant_unequal, !=, ==)
MOIRA_MUTANT_OPERATOR(mutant_plus, +, -)
MOIRA_MUTANT_OPERATOR(mutant_minus, -, +)
MOIRA_MUTANT_OPERATOR(mutant_times, *, +)
MOIRA_MUTANT_OPERATOR(mutant_divided, /, *)
MOIRA_MUTANT_OPERATOR(mutant_modulo, %, /)

// `x += mutant_add(7) = y`
template <class Right>
struct mutant_addend {
    Right value;
    int number;
};
struct mutant_add {
    int number;
    MOIRA_MUTANT_FN explicit mutant_add(int n) : number(n) {}
    template <class Right>
    MOIRA_MUTANT_FN mutant_addend<Right> operator=(const Right& right) const {
        return {right, number};
    }
};
template <class Left, class Right>
MOIRA_MUTANT_FN Left& operator+=(Left& left, const mutant_addend<Right>& addend) {
    return mutant(addend.number) ? left = addend.value : left += addend.value;
}

template <class Left, class Right>
MOIRA_MUTANT_FN bool mutant_and(int number, const Left& left, const Right& right) {
    return mutant(number) ? left() || right() : left() && right();
}
template <class Left, class Right>
MOIRA_MUTANT_FN bool mutant_or(int number, const Left& left, const Right& right) {
    return mutant(number) ? left() && right() : left() || right();
}

} // namespace moira
