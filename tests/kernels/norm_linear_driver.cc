// Runs the kernels of norm.h, linear.h and linear_gradient.h on odd shapes;
// exits with 1 if they are wrong.

#include "linear_gradient.h"
#include "cpu_driver.h"
#include "norm.h"
#include "tasks.h"

namespace {

// Runs the kernels of norm.h, with and without optional operands. Sums of whole
// images are compared, which detects a value that is skipped or added twice.
template <typename T>
void CheckNorm(const Images& s) {
  const std::vector<int64_t> sizes{s.batch, s.positions, s.channels};
  const int64_t size = s.batch * s.positions * s.channels;
  const auto x = Make<T>(size, 1);
  const auto g = Make<T>(size, 2);
  std::vector<float> bias(s.channels, 0.125f), one(s.batch * s.channels, 1.0f);
  std::vector<float> zero(one.size()), moments(2 * one.size());
  std::vector<float> products(2 * one.size()), sums(one.size());
  std::vector<float> plain(2 * one.size());
  std::vector<T> y(x.size()), y_residual(x.size()), dx(x.size());
  {
    Threads threads;
    RunAll<SumsWorker<T, Relu, false>>(
        threads, {s, x.data(), bias.data(), nullptr, moments.data()});
    RunAll<SumsWorker<T, Relu, true>>(
        threads, {s, x.data(), bias.data(), g.data(), products.data()});
    RunAll<SumsWorker<T, NoActivation, true>>(
        threads, {s, x.data(), bias.data(), g.data(), plain.data()});
    RunAll<AffineWorker<T, Relu, false>>(
        threads, {s, x.data(), bias.data(), one.data(), zero.data(),
                  nullptr, y.data()});
    RunAll<AffineWorker<T, Gelu, true>>(
        threads, {s, x.data(), bias.data(), zero.data(), one.data(),
                  g.data(), y_residual.data()});
    RunAll<GradientWorker<T, Relu>>(
        threads, {s, x.data(), bias.data(), g.data(), zero.data(),
                  zero.data(), one.data(), dx.data(), sums.data()});
  }
  std::vector<float> expected(moments.size());
  std::vector<float> expected_products(moments.size());
  std::vector<float> expected_plain(moments.size());
  std::vector<float> expected_sums(sums.size());
  const float tolerance = sizeof(T) == 2 ? 1 / 256.0f : 0;
  for (int64_t at = 0; at < static_cast<int64_t>(x.size()); ++at) {
    const int64_t c = at % s.channels, b = at / (s.positions * s.channels);
    const int64_t first = 2 * b * s.channels + c, second = first + s.channels;
    const float a = std::max(Value(x[at]) + 0.125f, 0.0f);
    expected[first] += a;
    expected[second] += a * a;
    expected_products[first] += Value(g[at]);
    expected_products[second] += Value(g[at]) * a;
    expected_plain[first] += Value(g[at]);
    expected_plain[second] += Value(g[at]) * (Value(x[at]) + 0.125f);
    expected_sums[b * s.channels + c] += a > 0;
    Compare("affine", sizes, Value(y[at]), a, tolerance);
    Compare("affine_residual", sizes, Value(y_residual[at]), 1 + Value(g[at]),
            tolerance);
    Compare("gradient", sizes, Value(dx[at]), a > 0, 0);
  }
  for (size_t at = 0; at < moments.size(); ++at) {
    Compare("moments", sizes, moments[at], expected[at], 0);
    Compare("products", sizes, products[at], expected_products[at], 0);
    Compare("products without activation", sizes, plain[at],
            expected_plain[at], 0);
  }
  for (size_t at = 0; at < sums.size(); ++at) {
    Compare("gradient's sums", sizes, sums[at], expected_sums[at], 0);
  }
}

// Multiplies with a kernel and with its transpose.
void CheckLinear(const Matrices& m) {
  const std::vector<int64_t> sizes{m.rows, m.inner, m.columns};
  const auto x = Make<float>(m.rows * m.inner, 1);
  const auto kernel = Make<float>(m.inner * m.columns, 2);
  std::vector<float> transpose(kernel.size());
  for (int64_t i = 0; i < m.inner; ++i) {
    for (int64_t c = 0; c < m.columns; ++c) {
      transpose[c * m.inner + i] = kernel[i * m.columns + c];
    }
  }
  for (const bool transposed : {false, true}) {
    std::vector<float> packed(m.inner * m.vectors() * kLanes);
    std::vector<float> y(m.rows * m.columns);
    {
      Threads threads;
      RunAll<PackWorker>(
          threads,
          {Kernel{m, transposed, (transposed ? transpose : kernel).data()},
           packed.data()});
    }
    {
      Threads threads;
      RunAll<MultiplyWorker<MatrixRows>>(
          threads, {m, threads.num_threads(), MatrixRows{x.data(), m.inner},
                    packed.data(), y.data()});
    }
    for (int64_t at = 0; at < static_cast<int64_t>(y.size()); ++at) {
      const int64_t row = at / m.columns, c = at % m.columns;
      float expected = 0;
      for (int64_t i = 0; i < m.inner; ++i) {
        expected += x[row * m.inner + i] * kernel[i * m.columns + c];
      }
      Compare("linear", sizes, y[at], expected, 0);
    }
  }
}

// Computes a product and what follows it, and keeps what its activation takes.
void CheckEpilogue(const Matrices& m, Epilogue::Activation activation,
                   bool has_bias, bool has_residual, bool has_slopes) {
  const std::vector<int64_t> sizes{m.rows, m.inner, m.columns};
  const int64_t size = m.rows * m.columns;
  const auto x = Make<float>(m.rows * m.inner, 1);
  const auto kernel = Make<float>(m.inner * m.columns, 2);
  const auto bias = Make<float>(m.columns, 3), residual = Make<float>(size, 4);
  const auto slopes = Make<float>(size, 5);
  std::vector<float> packed(m.inner * m.vectors() * kLanes);
  std::vector<float> y(size), before(size, 7);
  Epilogue epilogue;
  epilogue.activation = activation;
  epilogue.before = before.data();
  if (has_bias) epilogue.bias = bias.data();
  if (has_residual) epilogue.residual = residual.data();
  if (has_slopes) epilogue.slope_at = slopes.data();
  {
    Threads threads;
    RunAll<PackWorker>(threads,
                       {Kernel{m, false, kernel.data()}, packed.data()});
  }
  {
    Threads threads;
    RunAll<MultiplyWorker<MatrixRows>>(
        threads, {m, threads.num_threads(), MatrixRows{x.data(), m.inner},
                  packed.data(), y.data(), epilogue});
  }
  for (int64_t at = 0; at < size; ++at) {
    const int64_t row = at / m.columns, c = at % m.columns;
    double total = (has_bias ? bias[c] : 0) + (has_residual ? residual[at] : 0);
    for (int64_t i = 0; i < m.inner; ++i) {
      total += x[row * m.inner + i] * kernel[i * m.columns + c];
    }
    Compare("before the activation", sizes, before[at], total, 0);
    const auto distribution = [](double z) {
      return 0.5 + 0.5 * std::erf(z * std::sqrt(0.5));
    };
    double expected = total;
    if (activation == Epilogue::Activation::kRelu) {
      expected = std::max(total, 0.0);
    } else if (activation == Epilogue::Activation::kGelu) {
      expected = total * distribution(total);
    }
    if (has_slopes) {
      const double z = slopes[at];
      expected *= distribution(z) + z * std::exp(-z * z / 2) * 0.3989422804;
    }
    // Where GELU or its slope is almost 0, their relative error is large.
    const double most = 1e-6 * std::max(1.0, std::abs(total));
    if (!(std::abs(y[at] - expected) <= most)) {
      Compare("epilogue", sizes, y[at], expected, 0);
    }
  }
}

void CheckEpilogues(const Matrices& m) {
  using A = Epilogue::Activation;
  CheckEpilogue(m, A::kNone, true, false, false);
  CheckEpilogue(m, A::kRelu, true, true, false);
  CheckEpilogue(m, A::kGelu, true, false, false);
  CheckEpilogue(m, A::kNone, false, false, true);
}

// Computes the gradients of the kernel and of a bias.
void CheckLinearGradient(const Matrices& m) {
  const std::vector<int64_t> sizes{m.rows, m.inner, m.columns};
  const auto x = Make<float>(m.inner * m.rows, 1);
  const auto dy = Make<float>(m.inner * m.columns, 2);
  std::vector<float> dkernel(m.rows * m.columns, 7), dbias(m.columns, 7);
  {
    Threads threads;
    RunAll<LinearGradientWorker<MatrixRows>>(
        threads, {m, threads.num_threads(), MatrixRows{x.data(), m.rows},
                  dy.data(), dkernel.data(), dbias.data()});
  }
  for (int64_t c = 0; m.rows > 0 && c < m.columns; ++c) {
    float expected = 0;
    for (int64_t row = 0; row < m.inner; ++row) {
      expected += dy[row * m.columns + c];
    }
    Compare("bias's gradient", sizes, dbias[c], expected, 0);
  }
  for (int64_t at = 0; at < static_cast<int64_t>(dkernel.size()); ++at) {
    const int64_t i = at / m.columns, c = at % m.columns;
    float expected = 0;
    for (int64_t row = 0; row < m.inner; ++row) {
      expected += x[row * m.rows + i] * dy[row * m.columns + c];
    }
    Compare("linear's gradient", sizes, dkernel[at], expected, 0);
  }
}

}  // namespace

int main() {
  for (const Images& s :
       {Images{1, 1, 1}, Images{3, 35, 19}, Images{2, 256, 64},
        Images{1, 99, 130}, Images{5, 34, 70}, Images{0, 16, 4},
        Images{2, 9, 300}}) {
    CheckNorm<float>(s);
    CheckNorm<BFloat16>(s);
  }
  for (const Matrices& m : {Matrices{1, 1, 1}, Matrices{7, 5, 17},
                            Matrices{64, 12, 48}, Matrices{301, 33, 100},
                            Matrices{9, 0, 3}, Matrices{0, 4, 4},
                            Matrices{20, 100000, 2}, Matrices{5, 1600, 49},
                            Matrices{130, 20, 500}, Matrices{31, 700, 97}}) {
    CheckLinear(m);
    CheckEpilogues(m);
    CheckLinearGradient(m);
  }
  return wrong != 0;
}
