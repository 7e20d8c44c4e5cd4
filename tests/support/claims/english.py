"""Passages in English, each with sentences that it supports and sentences that only sound like it."""

from tests.support.claims.topic import Topic

__all__ = ["TOPICS"]

TOPICS = (
    Topic(
        "compressor-manual.pdf",
        "The KX-200 compressor takes 1.5 litres of ISO 32 oil. The oil is changed every 2,000 operating hours, and "
        "at least once a year. The KX-350 takes ISO 46 oil and is never run below 5 °C.",
        (
            "The KX-200 needs ISO 32 oil.",
            "Fill the KX-200 with 1500 ml of oil.",
            "Change the oil after every 2000 operating hours.",
            "The KX-350 must not be operated at temperatures under 5 °C.",
        ),
        (
            "The KX-200 takes ISO 46 oil.",
            "The KX-200 takes 2.5 litres of oil.",
            "The oil is changed every 20,000 operating hours.",
            "The KX-350 takes ISO 32 oil.",
        ),
    ),
    Topic(
        "leave-policy.md",
        "Full-time employees are entitled to 28 days of annual leave. Up to five unused days may be carried over "
        "into the next year, but they expire on 31 March. Leave during the probation period is not paid out in "
        "cash.",
        (
            "Full-time staff get 28 days of leave per year.",
            "You can carry over at most 5 unused days to the following year.",
            "Days that were carried over expire on March 31.",
            "Leave is not paid out in cash during probation.",
        ),
        (
            "Full-time employees are entitled to 26 days of annual leave.",
            "Up to seven unused days may be carried over into the next year.",
            "Carried-over days expire on 31 May.",
            "Leave during the probation period is paid out in cash.",
        ),
    ),
    Topic(
        "board-minutes-2023.docx",
        "On 14 June 2023 the board of Halvorsen Shipping appointed Ingrid Dahl as chief financial officer. She "
        "succeeds Peter Lund, who retires after nineteen years. The company acquired Baltic Freight for $4.2 "
        "million.",
        (
            "Ingrid Dahl became chief financial officer in June 2023.",
            "Peter Lund retires after 19 years.",
            "Halvorsen Shipping bought Baltic Freight for 4.2 million dollars.",
            "Ingrid Dahl follows Peter Lund as chief financial officer.",
        ),
        (
            "The board appointed Astrid Dahl as chief financial officer.",
            "The appointment was made on 14 July 2023.",
            "Baltic Freight acquired Halvorsen Shipping for $4.2 million.",
            "The company acquired Baltic Freight for €4.2 million.",
        ),
    ),
    Topic(
        "network-runbook.txt",
        "The primary gateway is 10.20.0.1 and listens on port 8443. If it fails, traffic moves to 10.20.0.2 within "
        "30 seconds. Firmware older than version 7.4.2 is vulnerable to CVE-2022-40684 and must be upgraded.",
        (
            "The primary gateway listens on port 8443.",
            "After a failure, traffic switches to 10.20.0.2 in half a minute.",
            "Firmware before 7.4.2 is affected by CVE-2022-40684.",
        ),
        (
            "The primary gateway listens on port 8448.",
            "Traffic moves to 10.20.0.2 within 30 minutes.",
            "Firmware older than version 7.2.4 must be upgraded.",
        ),
    ),
    Topic(
        "parking.md",
        "Visitors may park in garage B, level 2. The gate on Mill Street is open from 7 am to 8 pm on weekdays. "
        "Parking costs €3 per hour; the first hour is free. Bicycles must not be brought into the building.",
        (
            "Visitors can use level 2 of garage B.",
            "The Mill Street gate closes at 20:00 on weekdays.",
            "Parking is 3 euros an hour.",
            "It is forbidden to take bicycles into the building.",
        ),
        (
            "Visitors may park in garage C, level 2.",
            "The gate on Mill Street is open from 7 am to 9 pm on weekdays.",
            "Parking costs €3 per day.",
            "Bicycles may be brought into the building.",
        ),
    ),
    Topic(
        "trial-results.pdf",
        "In the trial 412 patients received 20 mg of tirelastat daily and 408 received a placebo. After 24 weeks "
        "blood pressure fell by 8.4 mmHg in the treatment group and by 2.1 mmHg in the placebo group. Headache was "
        "the most common side effect.",
        (
            "412 patients were given 20 mg tirelastat a day.",
            "In the placebo group blood pressure went down by 2.1 mmHg.",
            "The most frequent side effect was headache.",
        ),
        (
            "In the trial 412 patients received 20 g of tirelastat daily.",
            "Blood pressure rose by 8.4 mmHg in the treatment group.",
            "In the placebo group blood pressure fell by 8.4 mmHg.",
        ),
    ),
    Topic(
        "warranty.html",
        "The warranty covers the motor for ten years and all other parts for two years. It does not cover damage "
        "caused by water. Claims must be sent to the service centre in Leeds within 14 days, with the receipt.",
        (
            "The motor has a warranty of 10 years.",
            "Water damage is not covered by the warranty.",
            "You have two weeks to send a claim to the Leeds service centre.",
        ),
        (
            "The warranty covers the motor for two years.",
            "The warranty covers damage caused by water.",
            "Claims must be sent to the service centre in Bradford within 14 days.",
        ),
    ),
    Topic(
        "sales-q3.csv",
        "Region: North | Revenue: 1,240,000 | Growth: 12 %\n"
        "Region: South | Revenue: 980,000 | Growth: 7 %\n"
        "Region: West | Revenue: 1,105,500 | Growth: -3 %",
        (
            "The North region had revenue of 1.24 million.",
            "Growth in the South was 7 percent.",
        ),
        (
            "The North region had revenue of 980,000.",
            "Growth in the South was 12 %.",
        ),
    ),
    Topic(
        "reactor-notes.md",
        "Dr. Amara Okafor measured a yield of 73.5 % at pH 6.8, twice that of the old catalyst. Heating above 90 "
        "°C destroys the enzyme. The samples from batch 17 were lost; batch 18 was stored in the blue freezer.",
        (
            "Amara Okafor measured a yield of 73.5 percent.",
            "The enzyme is destroyed when heated to more than 90 °C.",
            "Batch 18 is kept in the blue freezer.",
        ),
        (
            "Dr. Amara Okafor measured a yield of 75.3 %.",
            "The samples from batch 18 were lost.",
            "Batch 18 was stored in the red freezer.",
            "Heating below 90 °C destroys the enzyme.",
        ),
    ),
    Topic(
        "venue.txt",
        "The annual conference takes place in Lisbon from 9 to 11 October 2025. Early registration costs 240 "
        "pounds and ends on 15 August. Talks are held in English only. The keynote is given by Marta Oliveira of "
        "the University of Porto.",
        (
            "The conference is in Lisbon in October 2025.",
            "Registering early costs £240.",
            "Marta Oliveira gives the keynote.",
            "All talks are in English.",
        ),
        (
            "The annual conference takes place in Porto.",
            "Early registration costs 240 dollars.",
            "Early registration ends on 25 August.",
            "Talks are held in Portuguese only.",
        ),
    ),
    Topic(
        "lab-safety.md",
        "Nitric acid is stored in cabinet 4 and sulphuric acid in cabinet 6. Gloves must be worn whenever solvents "
        "are handled. The emergency shower is tested every Tuesday by Tom Becker. Eating in the lab is strictly "
        "prohibited.",
        (
            "Sulphuric acid is kept in cabinet 6.",
            "When handling solvents you have to wear gloves.",
            "Tom Becker tests the emergency shower on Tuesdays.",
            "You are not allowed to eat in the lab.",
        ),
        (
            "Nitric acid is stored in cabinet 6.",
            "Gloves need not be worn when solvents are handled.",
            "The emergency shower is tested every Thursday by Tom Becker.",
            "Eating in the lab is allowed.",
        ),
    ),
    Topic(
        "pension-plan.pdf",
        "The employer contributes 6.5 % of gross salary to the pension plan; employees contribute 3 %. Members can "
        "retire at 63 with a deduction of 0.3 % for each month before the age of 67. Payments are made by "
        "Aldergate Trust.",
        (
            "Employees pay 3 percent of their gross salary into the pension plan.",
            "Retirement is possible at the age of 63.",
            "The employer's contribution is 6.5% of gross salary.",
            "Aldergate Trust makes the payments.",
        ),
        (
            "Employees contribute 6.5 % to the pension plan.",
            "Members can retire at 62 with a deduction.",
            "There is a deduction of 0.3 % for each year before the age of 67.",
            "Payments are made by Aldgate Trust.",
        ),
    ),
    Topic(
        "astronomy.txt",
        "The Kestrel probe was launched on 2 February 2011 and reached orbit around Ceres in March 2015. It "
        "carries a camera with a resolution of 70 metres per pixel. Mission control is in Darmstadt, while data is "
        "archived in Madrid.",
        (
            "Kestrel was launched in February 2011.",
            "The probe arrived in orbit around Ceres in 2015.",
            "The data are archived in Madrid.",
            "The camera resolves 70 m per pixel.",
        ),
        (
            "The Kestrel probe was launched on 2 February 2012.",
            "The probe reached orbit around Vesta in March 2015.",
            "Mission control is in Madrid.",
            "It carries a camera with a resolution of 70 centimetres per pixel.",
        ),
    ),
    Topic(
        "lease.docx",
        "The tenant pays a deposit of three months' rent. The landlord returns it within 60 days after the tenant "
        "has moved out. Pets are permitted only with written consent. The lease may be terminated by either party "
        "with 90 days' notice.",
        (
            "The deposit amounts to three months' rent.",
            "The landlord has to return the deposit within 60 days of the tenant moving out.",
            "Notice of 90 days is needed to terminate the lease.",
            "Pets need written consent.",
        ),
        (
            "The tenant pays a deposit of two months' rent.",
            "The tenant returns the deposit within 60 days.",
            "The lease may be terminated with 60 days' notice.",
            "Pets are permitted without written consent.",
        ),
    ),
    Topic(
        "release-notes.md",
        "Version 3.8 adds support for PostgreSQL 16 and drops support for PostgreSQL 11. The default timeout was "
        "raised from 30 to 45 seconds. The flag --legacy-auth was removed. Bug QX-5521 in the export module is "
        "fixed.",
        (
            "PostgreSQL 16 is supported since version 3.8.",
            "The default timeout is now 45 seconds.",
            "QX-5521 has been fixed.",
            "Version 3.8 no longer supports PostgreSQL 11.",
        ),
        (
            "Version 3.8 adds support for PostgreSQL 15.",
            "Version 3.8 adds support for PostgreSQL 11.",
            "The default timeout was lowered from 30 to 45 seconds.",
            "Bug QX-5512 in the export module is fixed.",
            "The default timeout was raised from 45 to 30 seconds.",
        ),
    ),
    Topic(
        "history.md",
        "The bridge was designed by Clara Whitfield and built between 1884 and 1889. It is 312 m long. Its western "
        "tower collapsed in 1931 after a storm and was rebuilt by the city of Ansley two years later.",
        (
            "Clara Whitfield designed the bridge.",
            "Construction of the bridge ended in 1889.",
            "The length of the bridge is 312 metres.",
            "The western tower collapsed in 1931.",
        ),
        (
            "The bridge was designed by Clara Whitman.",
            "The bridge is 321 m long.",
            "Its eastern tower collapsed in 1931.",
            "The western tower collapsed in 1913 after a storm.",
        ),
    ),
    Topic(
        "biology.txt",
        "Adult males of the species weigh up to 9 kg, females no more than 6 kg. They hunt at night and sleep "
        "during the day. The gestation period is about 110 days. Wolves prey on them, and they themselves prey on "
        "voles.",
        (
            "Adult females weigh at most 6 kg.",
            "The animals are active at night, when they hunt.",
            "Gestation takes around 110 days.",
            "They prey on voles.",
        ),
        (
            "Adult females weigh up to 9 kg.",
            "They hunt during the day and sleep at night.",
            "The gestation period is about 210 days.",
            "Voles prey on them.",
        ),
    ),
    Topic(
        "hydraulics.md",
        "Fill the tank with 46 litres of HLP 46 hydraulic fluid. Replace the filter element (part no. 7H-2290-B) "
        "after 500 hours. The maximum working pressure is 250 bar; the relief valve opens at 275 bar. Do not mix "
        "mineral oil with synthetic fluids.",
        (
            "The tank holds 46 litres of hydraulic fluid.",
            "After 500 hours the filter element has to be replaced.",
            "The relief valve opens once 275 bar are reached.",
            "Mineral oil must not be mixed with synthetic fluids.",
            "The filter element has the part number 7H-2290-B.",
        ),
        (
            "Fill the tank with HLP 32 hydraulic fluid.",
            "The filter element has the part number 7H-2209-B.",
            "The relief valve opens at 250 bar.",
            "Mineral oil may be mixed with synthetic fluids.",
            "Replace the filter element after 5,000 hours.",
            "The maximum working pressure is 250 psi.",
        ),
    ),
    Topic(
        "annual-report-2022.pdf",
        "Revenue rose 8 % to €312.5 million in 2022, while net profit fell to €21.4 million from €25.0 million. "
        "The group employed 1,840 people at the end of the year, 120 more than in 2021. Maria Santos took over as "
        "chief executive on 1 July; Gerard Pohl became chairman.",
        (
            "In 2022 revenue was 312.5 million euros.",
            "Net profit declined to 21.4 million euros.",
            "At the end of the year the group had 1,840 employees.",
            "Maria Santos has been chief executive since 1 July.",
            "Gerard Pohl is the chairman.",
        ),
        (
            "Revenue fell 8 % to €312.5 million in 2022.",
            "Net profit rose to €21.4 million.",
            "The group employed 1,480 people at the end of the year.",
            "Gerard Pohl took over as chief executive on 1 July.",
            "Maria Santos became chairman.",
            "Revenue rose to €312.5 billion in 2022.",
        ),
    ),
    Topic(
        "vacation-homes.txt",
        "House Seagull sleeps six and is 200 m from the beach. House Heron sleeps four and has a sauna. Dogs are "
        "welcome in House Heron only. Check-in is from 4 pm, check-out by 10 am. Towels are not included.",
        (
            "House Seagull has room for six people.",
            "There is a sauna in House Heron.",
            "Guests have to check out by 10 am.",
            "Towels are not provided.",
            "The beach is 200 metres from House Seagull.",
        ),
        (
            "House Heron sleeps six.",
            "House Seagull has a sauna.",
            "Check-in is from 2 pm.",
            "Towels are included.",
            "House Seagull is 200 km from the beach.",
        ),
    ),
    Topic(
        "clinic.html",
        "Children under 12 get half a tablet twice a day; adults get one tablet three times a day. The medicine "
        "must be taken before meals. It should not be used by people with kidney disease. Store it below 25 °C.",
        (
            "Adults take one tablet three times daily.",
            "Take the medicine before meals.",
            "People with kidney disease should not use the medicine.",
            "The medicine has to be kept below 25 °C.",
        ),
        (
            "The medicine must be taken after meals.",
            "Adults get one tablet twice a day.",
            "It should be used by people with kidney disease.",
            "Store it above 25 °C.",
            "Children under 16 get half a tablet twice a day.",
        ),
    ),
    Topic(
        "treaty.txt",
        "The treaty between Norland and Estia was signed in Vienna on 5 November 1921 and ratified by Estia in "
        "1923. Norland ceded the island of Torsk to Estia. The treaty was replaced in 1954.",
        (
            "Norland and Estia signed the treaty in Vienna.",
            "Estia ratified the treaty in 1923.",
            "The island of Torsk went from Norland to Estia.",
            "The treaty was signed on November 5, 1921.",
        ),
        (
            "The treaty was signed in Geneva on 5 November 1921.",
            "Estia ceded the island of Torsk to Norland.",
            "The treaty was replaced in 1945.",
            "Norland ratified the treaty in 1923.",
            "The treaty was signed on 5 December 1921.",
        ),
    ),
)
