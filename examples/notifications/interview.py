"""Reports the progress of its own task, in ten steps."""

import asyncio

from celeriac import TaskProgressContext, task_notifier

QUESTIONS = ["name", "age", "city", "job", "dream", "fear", "colour", "song", "book", "why"]


@task_notifier(task_id=lambda number: f"interview_{number}", user_id=7, task_type="interview")
async def interview(number: int) -> dict[str, int]:
    """Ask all questions; the return value is the task's result."""
    async with TaskProgressContext(f"interview_{number}", total_steps=len(QUESTIONS)) as progress:
        for question in QUESTIONS:
            await asyncio.sleep(0.5)
            await progress.increment(f"asked for the {question}")
    return {"answers": len(QUESTIONS)}


if __name__ == "__main__":
    asyncio.run(interview(123))
