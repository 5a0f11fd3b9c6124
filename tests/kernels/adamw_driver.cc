// Runs the step of adamw.h on odd sizes; exits with 1 if it is wrong.

#include "adamw.h"

#include "cpu_driver.h"

namespace {

// Runs its tasks when the caller does.
struct Alone {
  int64_t num_threads() const { return 1; }
  void Schedule(std::function<void()>) {}
};

struct Arrays {
  std::vector<float> parameter, first, second;

  bool operator==(const Arrays& other) const {
    return parameter == other.parameter && first == other.first &&
           second == other.second;
  }
};

// Reads `from` and writes `to`, which may be the same, in parts of `length`.
template <typename Pool>
AdamwReport Run(Pool& pool, const AdamwRule& rule, float also_finite,
                int64_t length, const std::vector<float>& gradient,
                const Arrays& from, Arrays& to) {
  std::vector<AdamwPart> parts;
  const int64_t size = gradient.size();
  for (int64_t at = 0; at < size; at += length) {
    parts.push_back({&gradient[at], &from.parameter[at], &from.first[at],
                     &from.second[at], &to.parameter[at], &to.first[at],
                     &to.second[at], std::min(length, size - at),
                     at % 2 ? 0.25f : 0.0f});
  }
  return RunAdamw(pool, rule, also_finite, parts);
}

void Check(int64_t size, int64_t length, float clip_norm) {
  const AdamwRule rule{0.75f, 0.25f, 0.5f, 0.5f, 2, 4, 0.5f, 0.125f, clip_norm};
  const std::vector<int64_t> sizes{size, length};
  const auto gradient = Make<float>(size, 1);
  Arrays old{Make<float>(size, 2), Make<float>(size, 3), Make<float>(size, 4)};
  for (float& value : old.second) value = std::abs(value);
  double gradients = 0, updates = 0, parameters = 0, before = 0;
  for (const float value : gradient) gradients += value * value;
  const double norm = std::sqrt(gradients);
  const double scale = clip_norm && norm > clip_norm ? clip_norm / norm : 1;

  Arrays found = old;
  AdamwReport report;
  {
    Threads threads;
    report = Run(threads, rule, 1, length, gradient, found, found);
  }
  for (int64_t at = 0; at < size; ++at) {
    const double g = gradient[at] * scale, p = old.parameter[at];
    const double first = 0.25 * g + 0.75 * old.first[at];
    const double second = 0.5 * g * g + 0.5 * old.second[at];
    const double decay = at / length * length % 2 ? 0.25 : 0;
    const double update =
        -0.125 * (2 * first / (std::sqrt(4 * second) + 0.5) + decay * p);
    updates += update * update;
    before += p * p;
    parameters += (p + update) * (p + update);
    // What is near 0 is a difference of larger numbers.
    Compare("parameter", sizes, found.parameter[at] + 4, p + update + 4, 1e-6);
    Compare("first moment", sizes, found.first[at] + 4, first + 4, 1e-6);
    Compare("second moment", sizes, found.second[at], second, 1e-6);
  }
  Compare("norm of the gradient", sizes, report.gradient_norm, norm, 1e-6);
  Compare("norm of the update", sizes, report.update_norm, std::sqrt(updates),
          1e-5);
  Compare("norm of the parameters", sizes, report.parameter_norm,
          std::sqrt(parameters), 1e-6);
  Compare("skipped", sizes, report.skipped, 0, 0);

  // The same bits by one thread, and elsewhere than the operands.
  Alone alone;
  Arrays apart{std::vector<float>(size), std::vector<float>(size),
               std::vector<float>(size)};
  const auto again = Run(alone, rule, 1, length, gradient, old, apart);
  Compare("bits", sizes, apart == found, 1, 0);
  Compare("bits of a norm", sizes, again.update_norm, report.update_norm, 0);

  const auto left_out =
      Run(alone, rule, INFINITY, length, gradient, old, apart);
  Compare("skipped", sizes, left_out.skipped, 1, 0);
  Compare("what is kept", sizes, apart == old, 1, 0);
  Compare("its norm", sizes, left_out.parameter_norm, std::sqrt(before), 1e-6);
}

}  // namespace

int main() {
  for (const float clip_norm : {0.0f, 0.5f, 1e6f}) {
    Check(0, 5, clip_norm);
    Check(1, 1, clip_norm);
    Check(kLanes, kLanes, clip_norm);
    Check(101, 17, clip_norm);
    Check(3 * 333 + 5, 333, clip_norm);
  }
  return wrong != 0;
}
