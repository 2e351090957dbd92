"""The paper that the service is built on, which several methods cite."""

SHORTENED_LLAMA = "Kim et al. 2024, Shortened LLaMA, arXiv 2402.02834"
